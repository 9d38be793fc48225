//! The table of clients: names, places of their settings, and signs of an installation.

use std::path::PathBuf;

use crate::environment::{Environment, System};

/// A program that uses MCP servers.
#[derive(Debug)]
pub struct Client {
    /// Name on the command line.
    pub name: &'static str,
    /// Other names on the command line.
    pub aliases: &'static [&'static str],
    /// Name for people.
    pub title: &'static str,
    pub(crate) setup: Setup,
    /// Files or directories that exist only if the client is installed.
    marks: fn(&Environment) -> Vec<PathBuf>,
    /// Names of its executable.
    programs: &'static [&'static str],
    pub(crate) hooks: Option<HookFile>,
}

/// How a server is added to a client.
#[derive(Debug)]
pub(crate) enum Setup {
    /// An entry in a file.
    File {
        dialect: Dialect,
        /// Possible files. The first one that exists is used, else the first one whose directory exists.
        candidates: fn(&Environment) -> Vec<PathBuf>,
    },
    /// Steps for the user, because the file cannot be edited without losing comments, or is no file.
    Instructions,
}

/// The form of an entry in the settings of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    ClaudeCode,
    ClaudeDesktop,
    Cursor,
    VsCode,
    Codex,
    Gemini,
    OpenCode,
    Zed,
    Windsurf,
    Cline,
}

/// The file with the hooks of a client, and the names of its events.
#[derive(Debug)]
pub(crate) struct HookFile {
    pub(crate) path: fn(&Environment) -> PathBuf,
    /// Pairs of the client's event and the event of `hook`.
    pub(crate) events: &'static [(&'static str, &'static str)],
    /// Maximum duration of a hook, in the client's unit: 10 seconds.
    pub(crate) timeout: &'static str,
}

/// All known clients, in the order of the menu.
pub static CLIENTS: &[Client] = &[
    Client {
        name: "claude-code",
        aliases: &["claude"],
        title: "Claude Code",
        setup: Setup::File {
            dialect: Dialect::ClaudeCode,
            candidates: |env| match &env.claude_folder {
                Some(folder) => vec![folder.join(".claude.json")],
                None => vec![env.home.join(".claude.json")],
            },
        },
        marks: |env| vec![claude_folder(env), env.home.join(".claude.json")],
        programs: &["claude"],
        hooks: Some(HookFile {
            path: |env| claude_folder(env).join("settings.json"),
            events: &[
                ("SessionStart", "session-start"),
                ("UserPromptSubmit", "user-prompt"),
                ("Stop", "stop"),
                ("PreCompact", "pre-compact"),
                ("SessionEnd", "session-end"),
                ("SubagentStop", "subagent-stop"),
            ],
            timeout: "10",
        }),
    },
    Client {
        name: "claude-desktop",
        aliases: &[],
        title: "Claude Desktop",
        setup: Setup::File {
            dialect: Dialect::ClaudeDesktop,
            candidates: |env| {
                vec![
                    env.desktop_config()
                        .join("Claude/claude_desktop_config.json"),
                ]
            },
        },
        marks: |env| vec![env.desktop_config().join("Claude")],
        programs: &["claude-desktop"],
        hooks: None,
    },
    Client {
        name: "cursor",
        aliases: &[],
        title: "Cursor",
        setup: Setup::File {
            dialect: Dialect::Cursor,
            candidates: |env| vec![env.home.join(".cursor/mcp.json")],
        },
        marks: |env| vec![env.home.join(".cursor")],
        programs: &["cursor"],
        hooks: None,
    },
    Client {
        name: "vscode",
        aliases: &["code", "vs-code"],
        title: "VS Code",
        setup: Setup::File {
            dialect: Dialect::VsCode,
            candidates: |env| vec![vscode_folder(env).join("mcp.json")],
        },
        marks: |env| vec![vscode_folder(env)],
        programs: &["code"],
        hooks: None,
    },
    Client {
        name: "codex",
        aliases: &[],
        title: "Codex",
        setup: Setup::File {
            dialect: Dialect::Codex,
            candidates: |env| vec![env.codex_folder.join("config.toml")],
        },
        marks: |env| vec![env.codex_folder.clone()],
        programs: &["codex"],
        hooks: Some(HookFile {
            path: |env| env.codex_folder.join("hooks.json"),
            events: &[
                ("SessionStart", "session-start"),
                ("UserPromptSubmit", "user-prompt"),
                ("Stop", "stop"),
                ("PreCompact", "pre-compact"),
                ("SubagentStop", "subagent-stop"),
            ],
            timeout: "10",
        }),
    },
    Client {
        name: "gemini",
        aliases: &["gemini-cli"],
        title: "Gemini CLI",
        setup: Setup::File {
            dialect: Dialect::Gemini,
            candidates: |env| vec![gemini_settings(env)],
        },
        marks: |env| vec![env.gemini_home.join(".gemini")],
        programs: &["gemini"],
        hooks: Some(HookFile {
            path: gemini_settings,
            events: &[
                ("SessionStart", "session-start"),
                ("BeforeAgent", "user-prompt"),
                ("AfterAgent", "stop"),
                ("PreCompress", "pre-compact"),
                ("SessionEnd", "session-end"),
            ],
            timeout: "10000",
        }),
    },
    Client {
        name: "opencode",
        aliases: &[],
        title: "OpenCode",
        setup: Setup::File {
            dialect: Dialect::OpenCode,
            candidates: |env| {
                let folder = env.xdg_config.join("opencode");
                vec![folder.join("opencode.json"), folder.join("opencode.jsonc")]
            },
        },
        marks: |env| vec![env.xdg_config.join("opencode")],
        programs: &["opencode"],
        hooks: None,
    },
    Client {
        name: "zed",
        aliases: &[],
        title: "Zed",
        setup: Setup::File {
            dialect: Dialect::Zed,
            candidates: |env| vec![zed_folder(env).join("settings.json")],
        },
        marks: |env| vec![zed_folder(env)],
        programs: &["zed", "zeditor"],
        hooks: None,
    },
    Client {
        name: "goose",
        aliases: &[],
        title: "Goose",
        setup: Setup::Instructions,
        marks: |env| match env.system {
            System::Windows => vec![env.app_data.join("Block/goose")],
            System::Linux | System::MacOs => vec![env.xdg_config.join("goose")],
        },
        programs: &["goose"],
        hooks: None,
    },
    Client {
        name: "windsurf",
        aliases: &[],
        title: "Windsurf",
        setup: Setup::File {
            dialect: Dialect::Windsurf,
            candidates: |env| vec![env.home.join(".codeium/windsurf/mcp_config.json")],
        },
        marks: |env| vec![env.home.join(".codeium/windsurf")],
        programs: &["windsurf"],
        hooks: None,
    },
    Client {
        name: "cline",
        aliases: &[],
        title: "Cline",
        setup: Setup::File {
            dialect: Dialect::Cline,
            candidates: |env| {
                [cline_extension(env).join("settings"), cline_folder(env)]
                    .map(|folder| folder.join("cline_mcp_settings.json"))
                    .to_vec()
            },
        },
        marks: |env| vec![cline_extension(env), cline_folder(env)],
        programs: &["cline"],
        hooks: None,
    },
    Client {
        name: "lm-studio",
        aliases: &["lmstudio"],
        title: "LM Studio",
        setup: Setup::Instructions,
        marks: |env| vec![env.home.join(".lmstudio")],
        programs: &["lms"],
        hooks: None,
    },
    Client {
        name: "open-webui",
        aliases: &["openwebui"],
        title: "Open WebUI",
        setup: Setup::Instructions,
        marks: |_| Vec::new(),
        programs: &["open-webui"],
        hooks: None,
    },
];

/// Returns the client with this name.
#[must_use]
pub fn find_client(name: &str) -> Option<&'static Client> {
    let mut clients = CLIENTS.iter();
    clients.find(|client| client.name == name || client.aliases.contains(&name))
}

impl Client {
    /// Returns whether there are signs that the client is installed for this user.
    #[must_use]
    pub fn is_installed(&self, env: &Environment) -> bool {
        (self.marks)(env).iter().any(|path| path.exists())
            || self.programs.iter().any(|name| env.has_program(name))
    }

    /// Returns the file with the servers of the client; `None` if only a person can add one.
    #[must_use]
    pub fn settings_file(&self, env: &Environment) -> Option<PathBuf> {
        let Setup::File { candidates, .. } = &self.setup else {
            return None;
        };
        let mut paths = candidates(env);
        let has_folder = |path: &PathBuf| path.parent().is_some_and(|folder| folder.exists());
        let at = paths
            .iter()
            .position(|path| path.symlink_metadata().is_ok())
            .or_else(|| paths.iter().position(has_folder))
            .unwrap_or(0);
        Some(paths.swap_remove(at))
    }

    /// Returns the file with the hooks of the client; `None` if it has no hooks that `hook` understands.
    #[must_use]
    pub fn hooks_file(&self, env: &Environment) -> Option<PathBuf> {
        self.hooks.as_ref().map(|hooks| (hooks.path)(env))
    }

    pub(crate) fn dialect(&self) -> Option<Dialect> {
        match self.setup {
            Setup::File { dialect, .. } => Some(dialect),
            Setup::Instructions => None,
        }
    }
}

fn claude_folder(env: &Environment) -> PathBuf {
    env.claude_folder
        .clone()
        .unwrap_or_else(|| env.home.join(".claude"))
}

fn vscode_folder(env: &Environment) -> PathBuf {
    env.desktop_config().join("Code/User")
}

fn gemini_settings(env: &Environment) -> PathBuf {
    env.gemini_home.join(".gemini/settings.json")
}

fn zed_folder(env: &Environment) -> PathBuf {
    match env.system {
        System::Windows => env.app_data.join("Zed"),
        System::Linux | System::MacOs => env.terminal_config().join("zed"),
    }
}

/// The directory of the extension in VS Code.
fn cline_extension(env: &Environment) -> PathBuf {
    vscode_folder(env).join("globalStorage/saoudrizwan.claude-dev")
}

/// The directory that newer versions share among editors.
fn cline_folder(env: &Environment) -> PathBuf {
    env.home.join(".cline/data/settings")
}

impl Dialect {
    /// Returns the key of the object with all servers.
    pub(crate) const fn container(self) -> &'static str {
        match self {
            Self::VsCode => "servers",
            Self::Codex => "mcp_servers",
            Self::OpenCode => "mcp",
            Self::Zed => "context_servers",
            Self::ClaudeCode
            | Self::ClaudeDesktop
            | Self::Cursor
            | Self::Gemini
            | Self::Windsurf
            | Self::Cline => "mcpServers",
        }
    }

    /// Returns whether the file contains nothing but servers, so that an empty container stays.
    pub(crate) const fn is_file_of_servers(self) -> bool {
        matches!(
            self,
            Self::Cursor | Self::VsCode | Self::Windsurf | Self::Cline | Self::ClaudeDesktop
        )
    }
}
