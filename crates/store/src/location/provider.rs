//! The providers that speak S3: how their hosts are spelled, and what each needs to be told or spared.

use super::{LocationError, S3Settings};
use std::net::IpAddr;

/// Who answers at an endpoint, as far as its host name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Amazon.
    Aws,
    /// DigitalOcean Spaces.
    Spaces,
    /// Cloudflare R2.
    R2,
    /// Backblaze B2.
    B2,
    /// Tigris.
    Tigris,
    /// Scaleway.
    Scaleway,
    /// Hetzner.
    Hetzner,
    /// Filebase.
    Filebase,
    /// Google Cloud Storage's S3 interface.
    Google,
    /// MinIO, Ceph, Garage and whoever else.
    Other,
}

/// What a URL's host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostForm {
    pub(crate) bucket: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) force_path_style: Option<bool>,
}

impl HostForm {
    pub(crate) fn bucket_only(bucket: &str) -> Self {
        Self { bucket: bucket.into(), endpoint: None, region: None, force_path_style: None }
    }

    fn at(bucket: &str, endpoint: String, region: Option<&str>, force_path_style: bool) -> Self {
        Self {
            bucket: bucket.into(),
            endpoint: Some(endpoint),
            region: region.map(Into::into),
            force_path_style: Some(force_path_style),
        }
    }
}

/// Splits a URL's host into bucket and provider. A host that is no known form is a bucket at AWS.
pub(crate) fn parse_host(host: &str) -> Result<HostForm, LocationError> {
    if host.starts_with("arn:") {
        return Ok(HostForm { region: arn_region(host), ..HostForm::bucket_only(host) });
    }
    if let Some((name, port)) = host.rsplit_once(':') {
        return parse_host_with_port(name, port);
    }
    for (suffix, form) in [
        (".amazonaws.com", aws as fn(&str, &str) -> Option<HostForm>),
        (".amazonaws.com.cn", aws),
        (".digitaloceanspaces.com", spaces),
        (".r2.cloudflarestorage.com", r2),
        (".backblazeb2.com", s3_region),
        (".scw.cloud", s3_region),
        (".your-objectstorage.com", hetzner),
        (".s3.filebase.com", whole_suffix),
        (".fly.storage.tigris.dev", whole_suffix),
        (".t3.storage.dev", whole_suffix),
        (".storage.googleapis.com", whole_suffix),
    ] {
        if let Some(front) = host.strip_suffix(suffix) {
            return form(front, suffix).ok_or_else(|| {
                LocationError::new(format!(
                    "s3://{host} names a provider but no bucket; write s3://BUCKET.HOST/PATH or \
                     s3://BUCKET/PATH?endpoint=https://HOST"
                ))
            });
        }
    }
    Ok(HostForm::bucket_only(host))
}

/// `BUCKET.HOST:PORT`: a server of one's own, over plain HTTP unless the port is HTTPS's.
fn parse_host_with_port(name: &str, port: &str) -> Result<HostForm, LocationError> {
    if port.parse::<u16>().is_err() {
        return Err(LocationError::new("the replica URL's port is not a number up to 65535"));
    }
    let scheme = if port == "443" { "https" } else { "http" };
    match name.split_once('.') {
        Some((bucket, rest)) if !bucket.is_empty() && !rest.is_empty() && name.parse::<IpAddr>().is_err() => {
            Ok(HostForm::at(bucket, format!("{scheme}://{rest}:{port}"), None, true))
        }
        _ => Err(LocationError::new(format!(
            "s3://{name}:{port} names a server but no bucket; write s3://BUCKET.{name}:{port}/PATH or \
             s3://BUCKET/PATH?endpoint={scheme}://{name}:{port}"
        ))),
    }
}

/// `BUCKET.s3[.REGION]` or `BUCKET.s3-REGION`, a bucket's dots included; `s3.REGION` alone is no bucket.
fn aws(front: &str, suffix: &str) -> Option<HostForm> {
    let (bucket, region) = if let Some(bucket) = front.strip_suffix(".s3") {
        (bucket, None)
    } else {
        let (rest, region) = front.rsplit_once('.').unwrap_or(("", front));
        match (rest.strip_suffix(".s3"), region.strip_prefix("s3-")) {
            (Some(bucket), _) => (bucket, Some(region)),
            (None, Some(region)) => (rest, Some(region)),
            (None, None) => return None,
        }
    };
    if bucket.is_empty() {
        return None;
    }
    let form = HostForm { region: region.map(Into::into), ..HostForm::bucket_only(bucket) };
    Some(match suffix {
        ".amazonaws.com.cn" => HostForm {
            endpoint: region.map(|region| format!("https://s3.{region}.amazonaws.com.cn")),
            force_path_style: Some(true),
            ..form
        },
        _ => form,
    })
}

/// `BUCKET.REGION`, with the bucket in the host name as Litestream asks Spaces.
fn spaces(front: &str, suffix: &str) -> Option<HostForm> {
    let (bucket, region) = split_bucket(front)?;
    Some(HostForm::at(bucket, format!("https://{region}{suffix}"), Some(region), false))
}

/// `BUCKET.ACCOUNT[.eu|.fedramp]`.
fn r2(front: &str, suffix: &str) -> Option<HostForm> {
    let (front, jurisdiction) = match front.rsplit_once('.') {
        Some((rest, place @ ("eu" | "fedramp"))) => (rest, format!(".{place}")),
        _ => (front, String::new()),
    };
    let (bucket, account) = split_bucket(front)?;
    Some(HostForm::at(bucket, format!("https://{account}{jurisdiction}{suffix}"), Some("auto"), true))
}

/// `BUCKET.s3.REGION`: Backblaze and Scaleway.
fn s3_region(front: &str, suffix: &str) -> Option<HostForm> {
    let (rest, region) = front.rsplit_once('.')?;
    let bucket = rest.strip_suffix(".s3").filter(|bucket| !bucket.is_empty())?;
    Some(HostForm::at(bucket, format!("https://s3.{region}{suffix}"), Some(region), true))
}

/// `BUCKET.REGION`.
fn hetzner(front: &str, suffix: &str) -> Option<HostForm> {
    let (bucket, region) = split_bucket(front)?;
    Some(HostForm::at(bucket, format!("https://{region}{suffix}"), Some(region), true))
}

/// `BUCKET` before a host that names no region.
fn whole_suffix(front: &str, suffix: &str) -> Option<HostForm> {
    let endpoint = format!("https://{}", suffix.trim_start_matches('.'));
    let region = Provider::of_host(suffix).region(suffix);
    (!front.is_empty()).then(|| HostForm::at(front, endpoint, region.as_deref(), true))
}

fn split_bucket(front: &str) -> Option<(&str, &str)> {
    front.rsplit_once('.').filter(|(bucket, _)| !bucket.is_empty())
}

/// The region field of `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME`.
fn arn_region(arn: &str) -> Option<String> {
    arn.split(':').nth(3).filter(|region| !region.is_empty()).map(Into::into)
}

impl Provider {
    /// Who has this host.
    pub fn of_host(host: &str) -> Self {
        let host = host.split(['/', ':']).next().unwrap_or(host);
        let ends = |suffix: &str| host == suffix || host.ends_with(&format!(".{suffix}"));
        match host {
            _ if ends("amazonaws.com") || ends("amazonaws.com.cn") => Self::Aws,
            _ if ends("digitaloceanspaces.com") => Self::Spaces,
            _ if ends("r2.cloudflarestorage.com") => Self::R2,
            _ if ends("backblazeb2.com") => Self::B2,
            _ if ends("tigris.dev") || ends("t3.storage.dev") => Self::Tigris,
            _ if ends("scw.cloud") => Self::Scaleway,
            _ if ends("your-objectstorage.com") => Self::Hetzner,
            _ if ends("filebase.com") => Self::Filebase,
            _ if ends("storage.googleapis.com") => Self::Google,
            _ => Self::Other,
        }
    }

    /// The region to sign for where nobody names one; `None` where it must be asked for (AWS).
    pub fn region(self, host: &str) -> Option<String> {
        let host = host.split(['/', ':']).next().unwrap_or(host).trim_start_matches('.');
        let label = |index: usize| host.split('.').nth(index).map(String::from);
        match self {
            Self::Aws => None,
            Self::R2 | Self::Tigris | Self::Google => Some("auto".into()),
            Self::Spaces | Self::Hetzner => host.rsplit('.').nth(2).map(String::from),
            Self::B2 | Self::Scaleway if host.starts_with("s3.") => label(1),
            _ => Some("us-east-1".into()),
        }
    }
}

/// Scheme, host with port, and base path of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: &'static str,
    pub(crate) host: String,
    pub(crate) base: String,
}

impl Endpoint {
    /// Parses `[http[s]://]HOST[:PORT][/BASE]`.
    pub(crate) fn parse(text: &str) -> Result<Self, LocationError> {
        let (scheme, rest) = match text.split_once("://") {
            None => ("", text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
            Some(_) => return Err(LocationError::new("the endpoint must begin with https:// or http://")),
        };
        let (host, base) = rest.split_once('/').unwrap_or((rest, ""));
        if host.contains('@') || base.contains(['?', '#']) {
            return Err(LocationError::new(
                "the endpoint must be a host and a port, without keys or parameters",
            ));
        }
        if base.contains(char::is_control) {
            return Err(LocationError::new("the endpoint holds a line break or another control character"));
        }
        let bracketed = host.starts_with('[') == host.contains(']');
        if host.is_empty()
            || !bracketed
            || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        {
            return Err(LocationError::new(
                "the endpoint has no host name that can be used; write https://HOST",
            ));
        }
        if let Some(port) = port_of(host)
            && !port.parse::<u16>().is_ok_and(|port| port > 0)
        {
            return Err(LocationError::new(format!(
                "the endpoint's port {port:?} is no number from 1 to 65535; write http://HOST:9000"
            )));
        }
        let scheme = match scheme {
            "http" => "http",
            "https" => "https",
            _ if is_near(host) => "http",
            _ => "https",
        };
        let base = match super::url::clean_path(base).as_str() {
            "" => String::new(),
            base => format!("/{base}"),
        };
        Ok(Self { scheme, host: host.to_ascii_lowercase(), base })
    }
}

/// What stands behind the host's name; an IPv6 address has colons of its own, and brackets around them.
fn port_of(host: &str) -> Option<&str> {
    host.rsplit(']').next().and_then(|rest| rest.split_once(':')).map(|(_, port)| port)
}

/// A host that is no name: nothing can be put in front of it.
fn is_ip(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or(host);
    host.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok()
}

/// A region goes into the signature's header and, at AWS, into the host's name.
fn check_region(region: &str) -> Result<(), LocationError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    match region.bytes().all(legal) {
        true => Ok(()),
        false => Err(LocationError::new(format!(
            "the region {region:?} has characters that no region has; write one such as us-east-1"
        ))),
    }
}

/// Hosts that are taken to speak plain HTTP when the endpoint does not say: this machine and private networks.
fn is_near(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Err(_) => name == "localhost" || name.ends_with(".localhost") || !name.contains('.'),
    }
}

/// Where requests go: scheme, host and the path in front of each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) provider: Provider,
    pub(crate) origin: String,
    /// Path in front of `/KEY`, percent-encoded, without a final slash.
    pub(crate) prefix: String,
    /// The region to sign for; `None` where AWS must be asked.
    pub(crate) region: Option<String>,
}

impl Address {
    /// Puts endpoint, bucket and style together. What comes out can be asked: requests are signed without looking at it again.
    pub(crate) fn of(settings: &S3Settings, encode: fn(&str) -> String) -> Result<Self, LocationError> {
        let address = Self::composed(settings, encode)?;
        address.region.as_deref().map_or(Ok(()), check_region)?;
        match reqwest::Url::parse(&format!("{}{}/", address.origin, address.prefix)) {
            Ok(_) => Ok(address),
            Err(error) => {
                Err(LocationError::new(format!("no request can go to {}: {error}", address.origin)))
            }
        }
    }

    fn composed(settings: &S3Settings, encode: fn(&str) -> String) -> Result<Self, LocationError> {
        let bucket = settings.bucket.as_str();
        if let Some(address) = Self::access_point(bucket) {
            return address;
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if bucket.is_empty() || !bucket.bytes().all(legal) {
            return Err(LocationError::new(
                "the bucket's name is empty or has characters no bucket may have; write s3://BUCKET/PATH",
            ));
        }
        let Some(endpoint) = &settings.endpoint else {
            return Ok(Self::aws(settings));
        };
        let endpoint = Endpoint::parse(endpoint)?;
        let provider = Provider::of_host(&endpoint.host);
        let region = settings.region.clone().or_else(|| provider.region(&endpoint.host));
        let Endpoint { scheme, host, base } = endpoint;
        // No name stands in front of an address, whatever is asked for: the AWS SDKs, and with them Litestream, do the same.
        let of_a_name = !is_ip(&host);
        let in_host = of_a_name && host.starts_with(&format!("{bucket}."));
        let (origin, prefix) = if !of_a_name || settings.force_path_style.unwrap_or(!in_host) {
            (format!("{scheme}://{host}"), format!("{}/{bucket}", encode(&base)))
        } else if in_host {
            (format!("{scheme}://{host}"), encode(&base))
        } else {
            (format!("{scheme}://{bucket}.{host}"), encode(&base))
        };
        Ok(Self { provider, origin, prefix, region })
    }

    /// Whether the service is on this machine or in a private network.
    pub(crate) fn is_private(&self) -> bool {
        self.origin.split_once("://").is_some_and(|(_, host)| is_near(host))
    }

    fn aws(settings: &S3Settings) -> Self {
        let bucket = &settings.bucket;
        let host = match settings.region.as_deref() {
            Some(region) if region.starts_with("cn-") => format!("s3.{region}.amazonaws.com.cn"),
            Some(region) => format!("s3.{region}.amazonaws.com"),
            None => "s3.amazonaws.com".into(),
        };
        // A dot in the bucket's name takes the host out of the certificate's wildcard.
        let in_path = settings.force_path_style.unwrap_or(bucket.contains('.'));
        let (origin, prefix) = match in_path {
            true => (format!("https://{host}"), format!("/{bucket}")),
            false => (format!("https://{bucket}.{host}"), String::new()),
        };
        Self { provider: Provider::Aws, origin, prefix, region: settings.region.clone() }
    }

    /// `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME` has a host of its own.
    fn access_point(arn: &str) -> Option<Result<Self, LocationError>> {
        let mut fields = arn.strip_prefix("arn:")?.split(':').skip(2);
        let (region, account, resource) = (fields.next(), fields.next(), fields.next());
        let name = resource.and_then(|r| r.strip_prefix("accesspoint/").or(r.strip_prefix("accesspoint:")));
        Some(match (region, account, name) {
            (Some(region), Some(account), Some(name)) if !region.is_empty() && !name.contains('/') => {
                Ok(Self {
                    provider: Provider::Aws,
                    origin: format!("https://{name}-{account}.s3-accesspoint.{region}.amazonaws.com"),
                    prefix: String::new(),
                    region: Some(region.into()),
                })
            }
            _ => Err(LocationError::new(
                "an access point's name must read arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME",
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::encode_path;

    fn address(settings: S3Settings) -> String {
        match Address::of(&settings, encode_path) {
            Ok(address) => {
                let region = address.region.unwrap_or_else(|| "?".into());
                format!("{}{} {region} {:?}", address.origin, address.prefix, address.provider)
            }
            Err(error) => error.to_string(),
        }
    }

    fn some(text: &str) -> Option<String> {
        (!text.is_empty()).then(|| text.to_string())
    }

    #[test]
    fn requests_go_to_the_right_place() {
        // Bucket, endpoint, region, path style; where a key's path is put after, the region and the provider.
        let rows = [
            ("b", "", "", None, "https://b.s3.amazonaws.com ? Aws"),
            ("b", "", "eu-west-1", None, "https://b.s3.eu-west-1.amazonaws.com eu-west-1 Aws"),
            ("b", "", "eu-west-1", Some(true), "https://s3.eu-west-1.amazonaws.com/b eu-west-1 Aws"),
            ("b.c", "", "eu-west-1", None, "https://s3.eu-west-1.amazonaws.com/b.c eu-west-1 Aws"),
            ("b", "", "cn-north-1", None, "https://b.s3.cn-north-1.amazonaws.com.cn cn-north-1 Aws"),
            (
                "b",
                "https://nyc3.digitaloceanspaces.com",
                "",
                Some(false),
                "https://b.nyc3.digitaloceanspaces.com nyc3 Spaces",
            ),
            (
                "b",
                "nyc3.digitaloceanspaces.com",
                "",
                None,
                "https://nyc3.digitaloceanspaces.com/b nyc3 Spaces",
            ),
            (
                "b",
                "https://b.nyc3.digitaloceanspaces.com",
                "",
                None,
                "https://b.nyc3.digitaloceanspaces.com nyc3 Spaces",
            ),
            (
                "b",
                "https://s3.us-west-004.backblazeb2.com",
                "",
                None,
                "https://s3.us-west-004.backblazeb2.com/b us-west-004 B2",
            ),
            ("b", "https://fly.storage.tigris.dev", "", None, "https://fly.storage.tigris.dev/b auto Tigris"),
            (
                "b",
                "https://fsn1.your-objectstorage.com",
                "",
                None,
                "https://fsn1.your-objectstorage.com/b fsn1 Hetzner",
            ),
            (
                "b",
                "https://x.supabase.co/storage/v1/s3/",
                "",
                None,
                "https://x.supabase.co/storage/v1/s3/b us-east-1 Other",
            ),
            ("b", "HTTP://Minio.Example:9000", "r", None, "http://minio.example:9000/b r Other"),
            ("b", "localhost:9000", "", None, "http://localhost:9000/b us-east-1 Other"),
            ("b", "minio:9000", "", None, "http://minio:9000/b us-east-1 Other"),
            ("b", "10.1.2.3", "", None, "http://10.1.2.3/b us-east-1 Other"),
            ("b", "[::1]:9000", "", None, "http://[::1]:9000/b us-east-1 Other"),
            ("b", "s3.example.com", "", None, "https://s3.example.com/b us-east-1 Other"),
            (
                "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap",
                "",
                "",
                None,
                "https://ap-123456789012.s3-accesspoint.eu-west-1.amazonaws.com eu-west-1 Aws",
            ),
        ];
        for (bucket, endpoint, region, force_path_style, wanted) in rows {
            let (endpoint, region) = (some(endpoint), some(region));
            let settings = S3Settings { endpoint, region, force_path_style, ..S3Settings::new(bucket, "p") };
            assert_eq!(address(settings), wanted, "{bucket}");
        }
    }

    #[test]
    fn endpoints_and_buckets_that_can_not_be_are_refused_without_being_repeated() {
        let rows = [
            ("b", "ftp://h", "https://"),
            ("b", "https://key:hunter2@h", "without keys"),
            ("b", "https://h/x?secret=hunter2", "without keys"),
            ("b", "https://", "no host name"),
            ("b", "https://h h", "no host name"),
            ("b", "https://h\n", "no host name"),
            ("b", "https://h/\n", "line break"),
            ("b", "http://127.0.0.1:99999", "port \"99999\""),
            ("b", "http://h:0", "port \"0\""),
            ("b", "http://h:", "port \"\""),
            ("b", "http://[::1]:x", "port \"x\""),
            ("b", "http://[::1", "no host name"),
            ("b", "http://1.2.3.4.5", "no request can go"),
            ("b/c", "https://h", "bucket's name"),
            ("b@hunter2", "", "bucket's name"),
            ("", "", "bucket's name"),
            ("arn:aws:s3:eu-west-1", "", "access point's name"),
        ];
        for (bucket, endpoint, wanted) in rows {
            let error = address(S3Settings { endpoint: some(endpoint), ..S3Settings::new(bucket, "p") });
            assert!(error.contains(wanted) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_region_that_no_request_can_have_is_refused_before_any_is_made() {
        for (endpoint, region, wanted) in
            [("", "us\neast", "region \"us\\neast\""), ("http://h", "us east", "region \"us east\"")]
        {
            let (endpoint, region) = (some(endpoint), some(region));
            let said = address(S3Settings { endpoint, region, ..S3Settings::new("b", "p") });
            assert!(said.contains(wanted), "{said}");
        }
    }

    #[test]
    fn a_bucket_stands_in_front_of_a_name_where_that_is_asked_for_and_never_of_an_address() {
        for (bucket, endpoint, wanted) in [
            ("b", "http://minio:9000", "http://b.minio:9000 us-east-1"),
            ("b", "http://127.0.0.1:9000", "http://127.0.0.1:9000/b us-east-1"),
            ("b", "http://[::1]:9000", "http://[::1]:9000/b us-east-1"),
            ("127", "http://127.0.0.1:9000", "http://127.0.0.1:9000/127 us-east-1"),
        ] {
            let (endpoint, force_path_style) = (some(endpoint), Some(false));
            let said = address(S3Settings { endpoint, force_path_style, ..S3Settings::new(bucket, "p") });
            assert!(said.starts_with(wanted), "{said}");
        }
    }
}
