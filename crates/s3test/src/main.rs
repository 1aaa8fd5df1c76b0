//! Runs the server by itself, for tests of whole processes: `s3test [--port N] [--profile aws|ceph|ignores|refuses|r2]`.
//! Prints shell assignments and serves until it is killed.

use s3test::{ACCESS_KEY, BUCKET, Profile, REGION, SECRET_KEY, Server};
use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut port, mut profile) = (0, Profile::Aws);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match (argument.as_str(), value.as_str()) {
            ("--port", value) => port = value.parse()?,
            ("--profile", "aws") => profile = Profile::Aws,
            ("--profile", "ceph") => profile = Profile::Ceph,
            ("--profile", "ignores") => profile = Profile::IgnoresConditions,
            ("--profile", "refuses") => profile = Profile::RefusesConditions,
            ("--profile", "r2") => profile = Profile::EqualParts,
            _ => return Err(format!("{argument} {value}: not known").into()),
        }
    }
    let server = Server::start_on(profile, port)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "S3_ENDPOINT={}", server.endpoint())?;
    writeln!(out, "S3_ACCESS_KEY_ID={ACCESS_KEY}")?;
    writeln!(out, "S3_SECRET_ACCESS_KEY={SECRET_KEY}")?;
    writeln!(out, "S3_REGION={REGION}")?;
    writeln!(out, "S3_BUCKET={BUCKET}")?;
    out.flush()?;
    drop(out);
    loop {
        std::thread::park();
    }
}
