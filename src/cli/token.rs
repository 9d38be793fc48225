//! `token`: credentials for clients.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;

use super::{Failure, USAGE, say};
use crate::config::{is_credential_name, sha256};

/// 256 bits, more than anybody guesses.
const TOKEN_BYTES: usize = 32;

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token: shown once, with the line for MEMORY_TOKENS that holds its hash
    New {
        /// Name of the client, kept in the history of what it stores
        name: String,
        /// Project that it reads and writes
        #[arg(long, default_value = crate::domain::scope::DEFAULT_PROJECT)]
        project: String,
    },
}

pub(super) fn run(command: TokenCommand) -> Result<u8, Failure> {
    let TokenCommand::New { name, project } = command;
    for (what, value) in [("NAME", &name), ("--project", &project)] {
        if !is_credential_name(value) {
            let error = anyhow::anyhow!("{what} {value:?} is not accepted; expected letters, digits, `-`, `_` and `.`");
            return Err(Failure { code: USAGE, error });
        }
    }
    let token = fresh().map_err(Failure::internal)?;
    let hash: String = sha256(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    say(&format!(
        "Token, for the client (it is not shown again):\n  {token}\n\n\
         Line for the file that MEMORY_TOKENS_FILE names:\n  {name} sha256:{hash} project={project}\n"
    ))?;
    Ok(0)
}

/// A random token from the operating system's generator.
pub(super) fn fresh() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; TOKEN_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
