//! Where S3 keys come from, and a type that keeps them out of every output.

use super::provider::{Address, Endpoint, Provider};
use super::{Environment, LocationError, S3Settings};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Text that neither `Debug` nor anything else shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for signing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A pair of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Session token of temporary keys.
    pub session_token: Option<Secret>,
}

/// Where the keys of an S3 replica come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CredentialSource {
    /// From the settings' own fields.
    #[default]
    Given,
    /// Found in the environment or a profile.
    Found(Credentials),
    /// Fetched when needed: a web identity's token, a container's or the machine's role.
    Role(RoleSource),
}

/// A role whose keys are fetched over HTTP and renewed before they expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleSource {
    /// `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`.
    WebIdentity {
        /// The file with the token.
        token_file: String,
        /// The role to take.
        role_arn: String,
        /// The session's name.
        session_name: Option<String>,
        /// The STS endpoint in place of the region's.
        sts_endpoint: Option<String>,
    },
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`: an ECS task's role.
    Task {
        /// The path at the task metadata service.
        relative_uri: String,
    },
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`: an EKS pod's role.
    Pod {
        /// The agent's URI.
        full_uri: String,
        /// The file with the token to show it.
        token_file: String,
    },
    /// The machine's role, from the instance metadata service.
    Instance {
        /// The service's endpoint in place of 169.254.169.254.
        endpoint: Option<String>,
    },
}

/// What to do where there are no keys.
pub(crate) const GIVE_KEYS: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or LITESTREAM_ACCESS_KEY_ID and \
     LITESTREAM_SECRET_ACCESS_KEY), or AWS_PROFILE";

/// The environment, with empty values taken for unset.
struct Env<'a>(Environment<'a>);

impl Env<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        self.get(name).map(Secret::new)
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }
}

pub(super) fn with_environment(
    mut settings: S3Settings,
    environment: Environment<'_>,
) -> Result<S3Settings, LocationError> {
    let env = Env(environment);
    // A broken profile matters only if its keys are needed.
    let loaded = Profile::load(&env);
    let profile = loaded.clone().unwrap_or_default();
    let endpoint = || env.get("AWS_ENDPOINT_URL_S3").or_else(|| env.get("AWS_ENDPOINT_URL"));
    settings.endpoint = settings.endpoint.or_else(endpoint).or_else(|| profile.get("endpoint_url"));
    settings.ca_bundle = settings.ca_bundle.or_else(|| {
        let file = env.get("AWS_CA_BUNDLE").or_else(|| env.get("SSL_CERT_FILE"));
        file.or_else(|| profile.get("ca_bundle")).map(PathBuf::from)
    });
    if settings.credentials == CredentialSource::Given {
        settings.credentials = find(&settings, &env, loaded)?;
    }
    let on_aws = match &settings.endpoint {
        None => true,
        Some(endpoint) => Provider::of_host(&Endpoint::parse(endpoint)?.host) == Provider::Aws,
    };
    // A bucket at AWS lies where it lies: its region is asked for, whatever region this machine is in.
    if !on_aws && settings.region.is_none() && !has_own_region(&settings)? {
        let region = env.get("AWS_REGION").or_else(|| env.get("AWS_DEFAULT_REGION"));
        settings.region = region.or_else(|| profile.get("region"));
    }
    Address::of(&settings, crate::s3::encode_path)?;
    Ok(settings)
}

/// Whether the endpoint's host already tells the region.
fn has_own_region(settings: &S3Settings) -> Result<bool, LocationError> {
    let Some(endpoint) = &settings.endpoint else { return Ok(false) };
    Ok(!matches!(Provider::of_host(&Endpoint::parse(endpoint)?.host), Provider::Other | Provider::Filebase))
}

fn find(
    settings: &S3Settings,
    env: &Env<'_>,
    profile: Result<Profile, LocationError>,
) -> Result<CredentialSource, LocationError> {
    let given = pair(
        ("access-key-id", settings.access_key_id.clone()),
        ("secret-access-key", settings.secret_access_key.clone()),
        ("session-token", settings.session_token.clone()),
    )?;
    if given.is_some() {
        return Ok(CredentialSource::Given);
    }
    for prefix in ["AWS", "LITESTREAM"] {
        let (id, secret) = (format!("{prefix}_ACCESS_KEY_ID"), format!("{prefix}_SECRET_ACCESS_KEY"));
        let token = ("AWS_SESSION_TOKEN", env.secret("AWS_SESSION_TOKEN"));
        if let Some(found) = pair((&id, env.get(&id)), (&secret, env.secret(&secret)), token)? {
            return Ok(CredentialSource::Found(found));
        }
    }
    if let Some(source) = web_identity(env)? {
        return Ok(CredentialSource::Role(source));
    }
    if let Some(found) = profile?.credentials()? {
        return Ok(CredentialSource::Found(found));
    }
    container(env)?.or_else(|| instance(settings, env)).map(CredentialSource::Role).ok_or_else(|| {
        LocationError::keys(format!("no credentials for {}: {GIVE_KEYS}", settings.location()))
    })
}

/// Both, none, or an error that names the missing one.
fn pair(
    (id_name, id): (&str, Option<String>),
    (secret_name, secret): (&str, Option<Secret>),
    (token_name, session_token): (&str, Option<Secret>),
) -> Result<Option<Credentials>, LocationError> {
    let half = |there: &str, missing: &str| {
        LocationError::keys(format!("{there} is set but {missing} is not; set both or neither"))
    };
    match (id.filter(|id| !id.is_empty()), secret.filter(|secret| !secret.expose().is_empty())) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(half(id_name, secret_name)),
        (None, Some(_)) => Err(half(secret_name, id_name)),
        (Some(access_key_id), Some(secret_access_key)) => {
            let in_header = |c: char| c.is_ascii_graphic();
            usable(id_name, &access_key_id, in_header)?;
            // Nobody sees this one, and some services take any text for it.
            usable(secret_name, secret_access_key.expose(), |c| !c.is_control())?;
            if let Some(token) = &session_token {
                usable(token_name, token.expose(), in_header)?;
            }
            Ok(Some(Credentials { access_key_id, secret_access_key, session_token }))
        }
    }
}

/// What no header takes is in no key: found here, and not when a request is signed. The key itself is not repeated.
fn usable(name: &str, key: &str, legal: fn(char) -> bool) -> Result<(), LocationError> {
    let wrong = match key.chars().find(|c| !legal(*c)) {
        None => return Ok(()),
        // What `echo` leaves at a file's end, and a secret that is made of the file then has.
        Some('\n' | '\r') if key.trim_end_matches(['\n', '\r']).chars().all(legal) => {
            "ends with a line break; store it without (printf %s adds none, echo does)"
        }
        Some('\n' | '\r') => "holds a line break; it must be one line",
        Some(c) if c.is_whitespace() => "holds a space; give it without spaces and quotes",
        Some(_) => "holds a character that no key has; copy it again",
    };
    Err(LocationError::keys(format!("{name} {wrong}")))
}

impl RoleSource {
    /// Whose keys are asked for, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::WebIdentity { token_file, role_arn, .. } => {
                format!("the role {role_arn}, by the token in {token_file} (AWS_WEB_IDENTITY_TOKEN_FILE),")
            }
            Self::Task { .. } => "this task's role (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI)".to_owned(),
            Self::Pod { .. } => "this pod's role (AWS_CONTAINER_CREDENTIALS_FULL_URI)".to_owned(),
            Self::Instance { .. } => "none are set, and this machine's role".to_owned(),
        }
    }
}

impl S3Settings {
    /// The keys, where they are known without asking anybody.
    pub(crate) fn static_credentials(&self) -> Result<Option<Credentials>, LocationError> {
        match &self.credentials {
            CredentialSource::Found(found) => Ok(Some(found.clone())),
            CredentialSource::Role(_) => Ok(None),
            CredentialSource::Given => {
                let id = ("access-key-id", self.access_key_id.clone());
                let secret = ("secret-access-key", self.secret_access_key.clone());
                pair(id, secret, ("session-token", self.session_token.clone()))
            }
        }
    }
}

fn web_identity(env: &Env<'_>) -> Result<Option<RoleSource>, LocationError> {
    match (env.get("AWS_WEB_IDENTITY_TOKEN_FILE"), env.get("AWS_ROLE_ARN")) {
        (Some(token_file), Some(role_arn)) => Ok(Some(RoleSource::WebIdentity {
            token_file,
            role_arn,
            session_name: env.get("AWS_ROLE_SESSION_NAME"),
            sts_endpoint: env.get("AWS_ENDPOINT_URL_STS"),
        })),
        (Some(_), None) => {
            Err(LocationError::keys("AWS_WEB_IDENTITY_TOKEN_FILE is set but AWS_ROLE_ARN is not"))
        }
        (None, _) => Ok(None),
    }
}

fn container(env: &Env<'_>) -> Result<Option<RoleSource>, LocationError> {
    if let Some(relative_uri) = env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Ok(Some(RoleSource::Task { relative_uri }));
    }
    let full_uri = env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    match (full_uri, env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")) {
        (Some(full_uri), Some(token_file)) => Ok(Some(RoleSource::Pod { full_uri, token_file })),
        (Some(_), None) => Err(LocationError::keys(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is set but AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE is not",
        )),
        (None, _) => Ok(None),
    }
}

/// The machine's role is worth asking for at AWS only: its keys mean nothing anywhere else, and asking takes seconds.
fn instance(settings: &S3Settings, env: &Env<'_>) -> Option<RoleSource> {
    let off = env.is_true("AWS_EC2_METADATA_DISABLED") || settings.endpoint.is_some();
    (!off).then(|| RoleSource::Instance { endpoint: env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") })
}

/// A profile of the shared credentials and config files; empty when there is none.
#[derive(Clone, Default)]
struct Profile {
    name: String,
    values: BTreeMap<String, Secret>,
}

/// A shared file larger than this is not read, bytes.
const MAX_SHARED_FILE: u64 = 1 << 20;

impl Profile {
    fn load(env: &Env<'_>) -> Result<Self, LocationError> {
        let asked = env.get("AWS_PROFILE");
        let name = asked.clone().unwrap_or_else(|| "default".into());
        let home = env.get("HOME").map(PathBuf::from);
        let place = |variable: &str, file: &str| {
            let at_home = || home.as_ref().map(|home| home.join(".aws").join(file));
            env.get(variable).map(PathBuf::from).or_else(at_home)
        };
        let mut found = asked.is_none();
        let mut values = BTreeMap::new();
        // The credentials file wins where both name a value, so it is read last.
        for (variable, file, in_config) in
            [("AWS_CONFIG_FILE", "config", true), ("AWS_SHARED_CREDENTIALS_FILE", "credentials", false)]
        {
            let Some(path) = place(variable, file) else { continue };
            let Some(text) = read_shared(&path)? else { continue };
            let section =
                if in_config && name != "default" { format!("profile {name}") } else { name.clone() };
            if let Some(section) = parse_ini(&text).remove(&section) {
                found = true;
                values.extend(section);
            }
        }
        if !found {
            return Err(LocationError::keys(format!(
                "AWS_PROFILE names the profile {name:?}, which neither the shared credentials nor the config file has"
            )));
        }
        Ok(Self { name, values })
    }

    fn get(&self, key: &str) -> Option<String> {
        self.values.get(key).map(|value| value.expose().to_string())
    }

    fn credentials(&self) -> Result<Option<Credentials>, LocationError> {
        let keys = pair(
            ("aws_access_key_id", self.get("aws_access_key_id")),
            ("aws_secret_access_key", self.values.get("aws_secret_access_key").cloned()),
            ("aws_session_token", self.values.get("aws_session_token").cloned()),
        )
        .map_err(|error| LocationError::keys(format!("in the profile {:?}, {error}", self.name)))?;
        let foreign = ["credential_process", "sso_session", "sso_start_url", "source_profile", "role_arn"];
        match foreign.iter().find(|key| self.values.contains_key(**key)) {
            Some(key) if keys.is_none() => Err(LocationError::keys(format!(
                "the profile {:?} gives its keys through {key}, which is not supported; export them as \
                 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
                self.name
            ))),
            _ => Ok(keys),
        }
    }
}

/// A shared file's text; `None` if there is no such file.
fn read_shared(path: &Path) -> Result<Option<String>, LocationError> {
    let fail = |error: std::io::Error| LocationError::new(format!("{}: {error}", path.display()));
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_SHARED_FILE => {
            Err(LocationError::new(format!("{} is no credentials file: it is too large", path.display())))
        }
        Ok(_) => std::fs::read_to_string(path).map(Some).map_err(fail),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error)),
    }
}

/// Sections of `key = value` lines. Comments begin a line with `#` or `;`; indented lines (nested values) are skipped.
fn parse_ini(text: &str) -> BTreeMap<String, BTreeMap<String, Secret>> {
    let mut sections = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(name.clone()).or_insert_with(BTreeMap::new);
            current = Some(name);
            continue;
        }
        let (Some(section), Some((key, value))) = (&current, line.split_once('=')) else { continue };
        if !line.starts_with(char::is_whitespace) {
            let section = sections.entry(section.clone()).or_insert_with(BTreeMap::new);
            section.insert(key.trim().to_ascii_lowercase(), Secret::new(value.trim()));
        }
    }
    sections
}
