//! Checks who could have written a file. Settings determine where data and secrets go, so they are read only from files
//! that only the user of this process and root can change.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

const ROOT: u32 = 0;
const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const WORLD_WRITE: u32 = 0o002;
/// The attribute with the POSIX access control list of a file, and the tags and rights of its entries (acl(5)).
const ACCESS_LIST: &str = "system.posix_acl_access";
const LONGEST_ACCESS_LIST: usize = 4096;
const ACCESS_USER: u16 = 0x02;
const ACCESS_GROUP: u16 = 0x08;
const ACCESS_WRITE: u8 = 0x02;
/// The number of symbolic links that the kernel follows.
const MAX_LINKS: usize = 40;

/// The user and the primary group of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Effective user ID.
    pub uid: u32,
    /// Effective group ID.
    pub gid: u32,
}

/// The reason why a path is not used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The path cannot be examined.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Another user could have written it. The reason is a clause, for example "it is writable by everyone".
    #[error("{0}")]
    Distrusted(String),
}

impl Default for User {
    fn default() -> Self {
        Self::of_process()
    }
}

impl User {
    pub fn of_process() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// Checks owner, mode and access control list of the file or directory at `path`, which has this metadata.
    ///
    /// # Errors
    /// Fails if another user owns it, or if everyone, a foreign group or another user may write to it.
    pub fn check(&self, path: &Path, metadata: &Metadata) -> Result<(), TrustError> {
        self.check_owner(metadata)?;
        let (mode, group) = (metadata.mode(), metadata.gid());
        let permissions = mode & 0o7777;
        if mode & WORLD_WRITE != 0 {
            return Err(TrustError::Distrusted(format!(
                "it is writable by everyone (mode {permissions:o})"
            )));
        }
        // Many systems give each user a private group and make files group-writable.
        if mode & GROUP_WRITE != 0 && group != self.gid && group != ROOT {
            return Err(TrustError::Distrusted(format!(
                "it is writable by group {group} (mode {permissions:o})"
            )));
        }
        // The mode shows the maximum rights of the entries of a list as those of the group.
        if mode & GROUP_WRITE != 0 {
            return self.check_access_list(path);
        }
        Ok(())
    }

    fn check_access_list(&self, path: &Path) -> Result<(), TrustError> {
        let mut list = [0; LONGEST_ACCESS_LIST];
        let length = match rustix::fs::getxattr(path, ACCESS_LIST, &mut list) {
            Ok(length) => length,
            Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        // A version, then entries: tag, rights and ID, in little-endian order.
        for entry in list[..length].get(4..).unwrap_or_default().chunks_exact(8) {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            let may_write = entry[2] & ACCESS_WRITE != 0;
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let (kind, own) = match tag {
                ACCESS_USER => ("user", self.uid),
                ACCESS_GROUP => ("group", self.gid),
                _ => continue,
            };
            if may_write && id != own && id != ROOT {
                return Err(TrustError::Distrusted(format!(
                    "its access control list lets {kind} {id} write"
                )));
            }
        }
        Ok(())
    }

    fn check_owner(&self, metadata: &Metadata) -> Result<(), TrustError> {
        let owner = metadata.uid();
        if owner == self.uid || owner == ROOT {
            return Ok(());
        }
        Err(TrustError::Distrusted(format!(
            "it is owned by user {owner}, not by user {} or root",
            self.uid
        )))
    }

    /// Follows symbolic links. The caller must still check owner and mode of the returned path.
    ///
    /// # Errors
    /// Fails if a link belongs to another user, or if everyone may replace the entries of a directory on the way.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, TrustError> {
        let mut path = std::path::absolute(path)?;
        for _ in 0..MAX_LINKS {
            let metadata = fs::symlink_metadata(&path)?;
            if let Some(directory) = path.parent() {
                check_ancestors(&directory.canonicalize()?)?;
            }
            if !metadata.is_symlink() {
                return Ok(path);
            }
            if let Err(TrustError::Distrusted(reason)) = self.check_owner(&metadata) {
                return Err(TrustError::Distrusted(format!(
                    "{} is a symbolic link, and {reason}",
                    path.display()
                )));
            }
            let target = fs::read_link(&path)?;
            path = path
                .parent()
                .map(|directory| directory.join(&target))
                .unwrap_or(target);
        }
        Err(io::Error::from(rustix::io::Errno::LOOP).into())
    }

    /// Follows symbolic links and checks the target.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve) and [`check`](Self::check).
    pub fn examine(&self, path: &Path) -> Result<PathBuf, TrustError> {
        let path = self.resolve(path)?;
        self.check(&path, &fs::metadata(&path)?)?;
        Ok(path)
    }
}

/// Checks the directories above. The sticky bit, as of `/tmp`, prevents users from replacing the entries of others.
fn check_ancestors(directory: &Path) -> Result<(), TrustError> {
    for ancestor in directory.ancestors() {
        let mode = fs::metadata(ancestor)?.mode();
        if mode & WORLD_WRITE != 0 && mode & STICKY == 0 {
            return Err(TrustError::Distrusted(format!(
                "everyone can replace it, because the directory {} is writable by everyone (mode {:o})",
                ancestor.display(),
                mode & 0o7777
            )));
        }
    }
    Ok(())
}

/// Returns whether an error of the operating system may disappear by itself: no free file descriptor or memory, a full
/// or read-only disk, a disk error.
pub fn is_transient(error: &io::Error) -> bool {
    let transient = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::ROFS,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::IO,
        Errno::STALE,
        Errno::AGAIN,
        Errno::BUSY,
        Errno::INTR,
        Errno::TIMEDOUT,
    ];
    Errno::from_io_error(error).is_some_and(|errno| transient.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn reason(result: Result<PathBuf, TrustError>) -> String {
        match result {
            Err(TrustError::Distrusted(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_that_others_can_write_are_distrusted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("settings");
        fs::write(&file, "").unwrap();
        let user = User::of_process();
        for mode in [0o400, 0o600, 0o644, 0o664] {
            set_mode(&file, mode);
            assert_eq!(user.examine(&file).unwrap(), file, "{mode:o}");
        }
        set_mode(&file, 0o666);
        assert_eq!(
            reason(user.examine(&file)),
            "it is writable by everyone (mode 666)"
        );
        set_mode(&file, 0o602);
        assert!(reason(user.examine(&file)).contains("everyone"));
        let group = fs::metadata(&file).unwrap().gid();
        let elsewhere = User {
            gid: group + 1,
            ..user
        };
        set_mode(&file, 0o664);
        assert_eq!(
            elsewhere.examine(&file).is_ok(),
            group == ROOT,
            "root's group is trusted"
        );
    }

    #[test]
    fn files_that_an_access_control_list_opens_are_distrusted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("settings");
        let user = User::of_process();
        let entry = |tag: u16, rights: u16, id: u32| {
            [
                &tag.to_le_bytes()[..],
                &rights.to_le_bytes(),
                &id.to_le_bytes(),
            ]
            .concat()
        };
        for (tag, id, mask, expected) in [
            (
                ACCESS_USER,
                4711,
                6,
                Some("its access control list lets user 4711 write"),
            ),
            (
                ACCESS_GROUP,
                4711,
                6,
                Some("its access control list lets group 4711 write"),
            ),
            (ACCESS_USER, 4711, 4, None),
            (ACCESS_USER, user.uid, 6, None),
        ] {
            fs::write(&file, "").unwrap();
            // The owner, a user, the group, the mask of both, and all others.
            let list = [
                2_u32.to_le_bytes().to_vec(),
                entry(1, 6, u32::MAX),
                if tag == ACCESS_USER {
                    entry(tag, 6, id)
                } else {
                    Vec::new()
                },
                entry(4, 4, u32::MAX),
                if tag == ACCESS_GROUP {
                    entry(tag, 6, id)
                } else {
                    Vec::new()
                },
                entry(16, mask, u32::MAX),
                entry(32, 0, u32::MAX),
            ];
            let flags = rustix::fs::XattrFlags::empty();
            match rustix::fs::setxattr(&file, ACCESS_LIST, &list.concat(), flags) {
                // This file system does not support access control lists.
                Err(Errno::NOTSUP) => return,
                set => set.unwrap(),
            }
            match expected {
                Some(expected) => assert_eq!(reason(user.examine(&file)), expected),
                None => assert!(user.examine(&file).is_ok(), "{tag} {id} {mask}"),
            }
            fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn files_of_other_users_are_distrusted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("settings");
        fs::write(&file, "").unwrap();
        let user = User::of_process();
        if user.uid == ROOT {
            std::os::unix::fs::chown(&file, Some(4711), Some(4711)).unwrap();
            assert_eq!(
                reason(user.examine(&file)),
                "it is owned by user 4711, not by user 0 or root"
            );
            assert!(
                User {
                    uid: 4711,
                    gid: 4711
                }
                .examine(&file)
                .is_ok()
            );
        } else {
            assert!(
                reason(
                    User {
                        uid: user.uid + 1,
                        ..user
                    }
                    .examine(&file)
                )
                .starts_with("it is owned by user")
            );
        }
    }

    #[test]
    fn links_are_followed_and_every_directory_on_the_way_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let open = directory.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::write(open.join("settings"), "").unwrap();
        let link = directory.path().join("link");
        symlink("open/settings", &link).unwrap();
        let user = User::of_process();
        assert_eq!(
            user.examine(&link).unwrap(),
            directory.path().join("open/settings")
        );
        set_mode(&open, 0o777);
        assert!(reason(user.examine(&link)).contains("open is writable by everyone"));
        set_mode(&open, 0o1777);
        assert!(
            user.examine(&link).is_ok(),
            "the sticky bit protects entries"
        );
        if user.uid == ROOT {
            std::os::unix::fs::lchown(&link, Some(4711), None).unwrap();
            assert!(
                reason(user.examine(&link))
                    .contains("is a symbolic link, and it is owned by user 4711")
            );
        }
        let circle = directory.path().join("circle");
        symlink("circle", &circle).unwrap();
        assert!(matches!(user.examine(&circle), Err(TrustError::Io(_))));
    }

    #[test]
    fn some_errors_go_away_by_themselves() {
        for code in [
            rustix::io::Errno::MFILE,
            rustix::io::Errno::ROFS,
            rustix::io::Errno::NOSPC,
        ] {
            assert!(is_transient(&code.into()));
        }
        for code in [
            rustix::io::Errno::NOENT,
            rustix::io::Errno::ACCESS,
            rustix::io::Errno::PERM,
        ] {
            assert!(!is_transient(&code.into()));
        }
    }
}
