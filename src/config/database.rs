//! The database and its address.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use service_kit::config::did_you_mean;

/// The database of the memories.
#[derive(Debug, Clone)]
pub enum Database {
    Sqlite {
        /// Absolute path.
        path: PathBuf,
    },
    Postgres(Postgres),
}

impl Database {
    /// `sqlite` or `postgres`.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Returns the name of the database, or the path of the file.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite { path } => path.display().to_string(),
            Self::Postgres(postgres) => postgres.name.clone(),
        }
    }

    /// Returns `host:port` of the server, or its socket directory. `None` for an embedded file.
    pub fn server(&self) -> Option<String> {
        match self {
            Self::Sqlite { .. } => None,
            Self::Postgres(postgres) => Some(postgres.server()),
        }
    }
}

// User and password are omitted.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => write!(f, "{} (SQLite)", path.display()),
            Self::Postgres(postgres) => {
                write!(f, "{} on {} (PostgreSQL)", postgres.name, postgres.server())
            }
        }
    }
}

/// Access to a PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Host name, address without brackets, or the directory of a Unix socket.
    pub host: String,
    /// Also part of the name of a Unix socket.
    pub port: u16,
    pub name: String,
    pub user: String,
    pub password: Option<SecretString>,
    pub ssl_mode: SslMode,
    /// The configured address without the ignored parameters. Connections use it, because it may have more parameters
    /// than the fields.
    pub url: Option<SecretString>,
    /// Names of the parameters of the address that have no effect.
    pub ignored: Vec<&'static str>,
}

impl Postgres {
    fn server(&self) -> String {
        match &self.host {
            host if host.starts_with('/') => host.clone(),
            host if host.contains(':') => format!("[{host}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }
}

/// TLS of the connection, with the meaning of libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    /// TLS is never used.
    Disable,
    /// TLS is used if the server supports it.
    #[default]
    Prefer,
    /// TLS with any certificate.
    Require,
    /// TLS with a certificate of a known authority.
    VerifyCa,
    /// TLS with a certificate of a known authority for this host.
    VerifyFull,
}

impl SslMode {
    /// Returns the name in libpq.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for SslMode {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [
            Self::Disable,
            Self::Prefer,
            Self::Require,
            Self::VerifyCa,
            Self::VerifyFull,
        ]
        .into_iter()
        .find(|mode| mode.as_str() == word)
        .ok_or(())
    }
}

/// A parsed database address. The path of an embedded file may be relative.
#[derive(Clone)]
pub(super) enum Address {
    Sqlite(String),
    Postgres(Box<Postgres>),
}

/// Parses `MEMORY_DATABASE_URL`. Errors are sentences that contain only parameter names of the address.
pub(super) fn parse_address(text: &str) -> Result<Address, String> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err("There is no scheme in it.".to_owned());
    };
    match scheme {
        "sqlite" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            match path {
                "" => Err("The path is missing.".to_owned()),
                ":memory:" => {
                    Err("A database in memory would lose all data; name a file.".to_owned())
                }
                path if path.contains('?') => {
                    Err("Options after `?` are not supported for SQLite.".to_owned())
                }
                path => Ok(Address::Sqlite(path.to_owned())),
            }
        }
        "postgres" | "postgresql" => {
            let rest = rest
                .strip_prefix("//")
                .ok_or("`//` is missing after the scheme.")?;
            Ok(Address::Postgres(Box::new(parse_postgres(text, rest)?)))
        }
        _ => Err("The scheme is not supported.".to_owned()),
    }
}

/// Parameters that the driver supports. It would log the values of all others.
const PARAMETERS: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Parameters that other clients need and that have no effect here: waits are limited, text is UTF-8, and a pooler in
/// transaction mode is detected at the start.
const HARMLESS: &[&str] = &[
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "connection_limit",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "pgbouncer",
    "pool_max_conns",
    "pool_min_conns",
    "pool_mode",
    "pool_timeout",
    "prepareThreshold",
    "sslcertmode",
    "sslcompression",
    "sslnegotiation",
    "sslsni",
    "supa",
    "tcp_user_timeout",
    "uselibpqcompat",
    "workaround",
];

/// Values of `target_session_attrs` that allow writing.
const WRITABLE_SESSIONS: &[&str] = &["any", "read-write", "primary"];

/// How an address parameter is passed to the driver.
enum Parameter {
    Kept,
    /// Under another name or with another value.
    Replaced(&'static str),
    Ignored(&'static str),
}

/// Classifies a parameter. The error names it but not its value.
fn classify_parameter(key: &str, value: &str) -> Result<Parameter, String> {
    if let Some(name) = HARMLESS.iter().find(|name| **name == key) {
        return Ok(Parameter::Ignored(name));
    }
    match key {
        "target_session_attrs" if WRITABLE_SESSIONS.contains(&value) => {
            Ok(Parameter::Ignored("target_session_attrs"))
        }
        "target_session_attrs" => Err(
            "`target_session_attrs` selects a standby, but the service writes; remove it \
             and name the primary server."
                .to_owned(),
        ),
        // In libpq this selects the authorities of the operating system, which are the default here, and full
        // verification.
        "sslrootcert" if value == "system" => Ok(Parameter::Replaced("sslmode=verify-full")),
        "schema" | "search_path" | "currentSchema" => Err(format!(
            "Use `options=-csearch_path%3DNAME` instead of `{key}` to select the schema."
        )),
        "statement-cache-capacity" if value.parse::<usize>().is_err() => {
            Err("`statement-cache-capacity` is not a whole number.".to_owned())
        }
        key if PARAMETERS.contains(&key) || (key.starts_with("options[") && key.ends_with(']')) => {
            Ok(Parameter::Kept)
        }
        key => {
            let known = PARAMETERS.iter().chain(HARMLESS).copied();
            let hint = did_you_mean(key, "", known)
                .map(|hint| format!(" {hint}"))
                .unwrap_or_default();
            let key: String = key.escape_debug().take(40).collect();
            Err(format!(
                "The parameter `{key}` is not supported; remove it.{hint}"
            ))
        }
    }
}

fn parse_postgres(url: &str, rest: &str) -> Result<Postgres, String> {
    // These characters in a password would be parsed as another part.
    if rest.contains('#') || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(
            "Percent-encode special characters: `#` is `%23`, a space is `%20`.".to_owned(),
        );
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
    if name.contains('@') || query.contains('@') {
        return Err(
            "Percent-encode special characters: `/` is `%2F`, `?` is `%3F`, `@` is `%40`."
                .to_owned(),
        );
    }
    let (userinfo, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    if userinfo.contains('@') {
        return Err("Percent-encode `@` in the password as `%40`.".to_owned());
    }
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    let (host, port) = split_port(address)?;
    let mut postgres = Postgres {
        host: decode_percent(host)?,
        port: port.unwrap_or(5432),
        name: decode_percent(name)?,
        user: decode_percent(user)?,
        password: password
            .map(decode_percent)
            .transpose()?
            .filter(|password| !password.is_empty())
            .map(SecretString::from),
        ssl_mode: SslMode::default(),
        url: None,
        ignored: Vec::new(),
    };
    let kept = postgres.take_parameters(query)?;
    let base = url.split_once('?').map_or(url, |(base, _)| base);
    let address = match kept.is_empty() {
        true => base.to_owned(),
        false => format!("{base}?{}", kept.join("&")),
    };
    postgres.url = Some(SecretString::from(address));
    // Defaults from the user of the operating system or from variables of libpq would be guesses.
    for (part, value) in [
        ("user", &postgres.user),
        ("host", &postgres.host),
        ("database name", &postgres.name),
    ] {
        if value.is_empty() {
            return Err(format!("The {part} is missing."));
        }
    }
    if postgres.host.contains(',') {
        return Err("Only one host is supported.".to_owned());
    }
    Ok(postgres)
}

impl Postgres {
    /// Applies the parameters of an address. Returns those that are passed to the driver.
    fn take_parameters<'a>(&mut self, query: &'a str) -> Result<Vec<&'a str>, String> {
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode_percent(&value.replace('+', " "))?;
            match classify_parameter(key, &value)? {
                Parameter::Kept => {
                    kept.push(pair);
                    self.set_parameter(key, value)?;
                }
                Parameter::Replaced(other) => {
                    kept.push(other);
                    let (key, value) = other.split_once('=').unwrap_or((other, ""));
                    self.set_parameter(key, value.to_owned())?;
                }
                Parameter::Ignored(name) if self.ignored.contains(&name) => {}
                Parameter::Ignored(name) => self.ignored.push(name),
            }
        }
        Ok(kept)
    }

    fn set_parameter(&mut self, key: &str, value: String) -> Result<(), String> {
        match key {
            "host" => self.host = value,
            "user" => self.user = value,
            "dbname" => self.name = value,
            "password" => {
                self.password = (!value.is_empty()).then(|| SecretString::from(value));
            }
            "port" => {
                let port = value.parse().ok().filter(|port| *port > 0);
                self.port = port.ok_or("The port is not a number from 1 to 65535.")?;
            }
            "sslmode" => {
                self.ssl_mode = value.parse().map_err(
                    |()| "`sslmode` is one of disable, prefer, require, verify-ca, verify-full.",
                )?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn split_port(address: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest
                .split_once(']')
                .ok_or("`]` is missing after the IPv6 address.")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("The text in `[...]` is not an IPv6 address.".to_owned());
            }
            (
                host,
                rest.strip_prefix(':').or((!rest.is_empty()).then_some("x")),
            )
        }
        None if address.contains(['[', ']']) => {
            return Err("`[` and `]` are only allowed around an IPv6 address.".to_owned());
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    match port {
        None | Some("") => Ok((host, None)),
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Ok((host, Some(port))),
            _ => Err("The port is not a number from 1 to 65535 (percent-encode `/`, `?` and `@` in the password)."
                .to_owned()),
        },
    }
}

fn decode_percent(text: &str) -> Result<String, String> {
    const FAULT: &str =
        "A `%` is not followed by two hexadecimal digits of UTF-8 text; write `%` itself as `%25`.";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err(FAULT.to_owned());
            };
            bytes.push(u8::try_from(high * 16 + low).map_err(|_| FAULT)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| FAULT.to_owned())
}

impl PartialEq for Postgres {
    fn eq(&self, other: &Self) -> bool {
        let exposed = |secret: &Option<SecretString>| {
            secret
                .as_ref()
                .map(|secret| secret.expose_secret().to_owned())
        };
        (&self.host, self.port, &self.name, &self.user, self.ssl_mode)
            == (
                &other.host,
                other.port,
                &other.name,
                &other.user,
                other.ssl_mode,
            )
            && exposed(&self.password) == exposed(&other.password)
            && exposed(&self.url) == exposed(&other.url)
            && self.ignored == other.ignored
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    fn postgres(url: &str) -> Postgres {
        match parse_address(url) {
            Ok(Address::Postgres(postgres)) => *postgres,
            Ok(Address::Sqlite(_)) => panic!("not PostgreSQL: {url}"),
            Err(fault) => panic!("{url}: {fault}"),
        }
    }

    fn fault(url: &str) -> String {
        parse_address(url)
            .err()
            .unwrap_or_else(|| panic!("accepted: {url}"))
    }

    #[test]
    fn sqlite_addresses() {
        for (url, expected) in [
            ("sqlite:/data/memory.db", "/data/memory.db"),
            ("sqlite:///a b", "/a b"),
            ("sqlite://x.db", "x.db"),
            ("sqlite:~/x", "~/x"),
        ] {
            assert!(
                matches!(parse_address(url), Ok(Address::Sqlite(path)) if path == expected),
                "{url}"
            );
        }
    }

    #[test]
    fn postgres_addresses() {
        let full = postgres(
            "postgresql://me:p%40ss%2F%25@[::1]:6543/my%20db?sslmode=verify-full&application_name=x",
        );
        assert_eq!(
            (
                full.host.as_str(),
                full.port,
                full.name.as_str(),
                full.user.as_str(),
                full.ssl_mode
            ),
            ("::1", 6543, "my db", "me", SslMode::VerifyFull)
        );
        assert_eq!(
            full.password.as_ref().map(ExposeSecret::expose_secret),
            Some("p@ss/%")
        );
        assert_eq!(
            Database::Postgres(full).to_string(),
            "my db on [::1]:6543 (PostgreSQL)"
        );
        let socket = postgres("postgres://me@/db?host=/run/postgresql");
        assert_eq!(
            (socket.host.as_str(), socket.port, socket.password.is_none()),
            ("/run/postgresql", 5432, true)
        );
    }

    #[test]
    fn faults_tell_the_remedy_without_the_secret() {
        let urls = [
            "mysql://u:hunter2@h/d",
            "hunter2",
            "postgres:u:hunter2@h/d",
            "postgres://u:hunt#er2@h/d",
            "postgres://u:hunt/er2@h/d",
            "postgres://u:hunt?er2@h/d",
            "postgres://u:hunt@er2@h/d",
            "postgres://u:hunt er2@h/d",
            "postgres://u:hunter2%4@h/d",
            "postgres://u:hunter2@h",
            "postgres://u:hunter2@/d",
            "postgres://:hunter2@h/d",
            "postgres://u:hunter2@h:0/d",
            "postgres://u:hunter2@h:x/d",
            "postgres://u:hunter2@a,b/d",
            "postgres://u:hunter2@h/d?sslmode=on",
            "postgres://u:hunter2@h/d?chanel_binding=hunter2",
            "postgres://u:hunter2@h/d?sslmodes=hunter2",
            "postgres://u:hunter2@h/d?zzz=hunter2",
            "postgres://u:hunter2@h/d?target_session_attrs=standby",
            "postgres://u:hunter2@h/d?schema=hunter2",
            "postgres://u:hunter2@[::1/d",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a?mode=rwc",
        ];
        let faults: Vec<String> = urls
            .iter()
            .map(|url| format!("{url}\n    {}", fault(url)))
            .collect();
        insta::assert_snapshot!(faults.join("\n"));
        assert!(urls.iter().all(|url| !fault(url).contains("er2")));
    }

    /// The form in which managed services print them.
    #[test]
    fn harmless_parameters_are_ignored_by_name() {
        let neon =
            postgres("postgresql://me:p@h.neon.tech/d?sslmode=require&channel_binding=require");
        assert_eq!(
            (neon.ssl_mode, neon.ignored.as_slice()),
            (SslMode::Require, &["channel_binding"][..])
        );
        let url = neon.url.as_ref().map(ExposeSecret::expose_secret);
        assert_eq!(url, Some("postgresql://me:p@h.neon.tech/d?sslmode=require"));
        let prisma = postgres(
            "postgres://me:p@h:6543/d?pgbouncer=true&connection_limit=1&connect_timeout=10",
        );
        assert_eq!(
            prisma.ignored,
            ["pgbouncer", "connection_limit", "connect_timeout"]
        );
        assert_eq!(
            prisma.url.as_ref().map(ExposeSecret::expose_secret),
            Some("postgres://me:p@h:6543/d")
        );
        let primary = postgres(
            "postgres://me:p@h/d?target_session_attrs=read-write&keepalives=1&keepalives=1",
        );
        assert_eq!(primary.ignored, ["target_session_attrs", "keepalives"]);
        let system = postgres("postgres://me:p@h/d?sslrootcert=system&options=-csearch_path%3Dx");
        assert_eq!(
            (system.ssl_mode, system.ignored.len()),
            (SslMode::VerifyFull, 0)
        );
        let url = system.url.as_ref().map(ExposeSecret::expose_secret);
        assert_eq!(
            url,
            Some("postgres://me:p@h/d?sslmode=verify-full&options=-csearch_path%3Dx")
        );
        let named = postgres("postgres://h/?user=me&password=p%40&dbname=d");
        assert_eq!((named.user.as_str(), named.name.as_str()), ("me", "d"));
        assert_eq!(
            named.password.as_ref().map(ExposeSecret::expose_secret),
            Some("p@")
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!(
            "{:?}",
            Database::Postgres(postgres("postgres://me:hunter2@h/d"))
        );
        assert!(!text.contains("hunter2"), "{text}");
    }

    proptest! {
        /// The displayed values are those to which sqlx connects.
        #[test]
        fn sqlx_reads_the_same_address(user in "[a-zA-Z0-9 :@/%é]{1,12}", password in "[ -~é]{1,12}", name in "[a-zA-Z0-9 /@?#_]{1,12}", port in 1_u16..) {
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            // sqlx strips slashes before the name.
            prop_assume!(!name.starts_with('/'));
            let url = format!("postgres://{}:{}@db.example:{port}/{}?sslmode=require", encode(&user), encode(&password), encode(&name));
            let ours = postgres(&url);
            let theirs: PgConnectOptions = url.parse().expect("sqlx accepts what we accept");
            prop_assert_eq!(theirs.get_host(), &ours.host);
            prop_assert_eq!(theirs.get_port(), ours.port);
            prop_assert_eq!(theirs.get_username(), &ours.user);
            prop_assert_eq!(theirs.get_database(), Some(ours.name.as_str()));
            prop_assert_eq!(ours.password.as_ref().map(ExposeSecret::expose_secret), Some(password.as_str()));
            prop_assert_eq!((ours.user.as_str(), ours.name.as_str()), (user.as_str(), name.as_str()));
        }

        #[test]
        fn sqlx_accepts_what_we_accept(rest in "[a-z@:/?&=%\\[\\]0-9]{0,40}") {
            let url = format!("postgres://{rest}");
            if parse_address(&url).is_ok() {
                prop_assert!(url.parse::<PgConnectOptions>().is_ok(), "{}", url);
            }
        }
    }
}
