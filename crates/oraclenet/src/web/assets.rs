//! The style sheet, the script and the icon: inside the program, each under a name that changes with its content.

use std::sync::LazyLock;

use ring::digest;

/// One file that pages ask for.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served: `/assets/` and a name that holds the beginning of its SHA-256.
    pub path: String,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its bytes.
    pub content: &'static str,
    /// Its `ETag`, with the quotes.
    pub etag: String,
}

/// A name is never used for other content, so it may be kept for good.
pub const CACHE_CONTROL: &str = "public, max-age=31536000, immutable";

/// The style sheet.
pub static STYLE: LazyLock<Asset> =
    LazyLock::new(|| asset("app", "css", "text/css; charset=utf-8", include_str!("../../assets/app.css")));
/// The script.
pub static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    asset("app", "js", "text/javascript; charset=utf-8", include_str!("../../assets/app.js"))
});
/// The icon.
pub static ICON: LazyLock<Asset> =
    LazyLock::new(|| asset("icon", "svg", "image/svg+xml", include_str!("../../assets/icon.svg")));

/// The asset of this name, which is its path without `/assets/`.
pub fn find(name: &str) -> Option<&'static Asset> {
    [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|it| it.path.strip_prefix("/assets/") == Some(name))
}

fn asset(name: &str, kind: &str, content_type: &'static str, content: &'static str) -> Asset {
    let hash = digest::digest(&digest::SHA256, content.as_bytes());
    let hash: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Asset {
        path: format!("/assets/{name}-{hash}.{kind}"),
        content_type,
        content,
        etag: format!("\"{hash}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_asset_is_found_by_the_name_that_pages_use() {
        for asset in [&*STYLE, &*SCRIPT, &*ICON] {
            let name = asset.path.strip_prefix("/assets/").unwrap();
            assert_eq!(find(name).unwrap().etag, asset.etag);
        }
        for name in ["", "app.css", "app-0000000000000000.css", "../Cargo.toml"] {
            assert!(find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for asset in [&*STYLE, &*SCRIPT] {
            for word in ["http://", "https://", "@import", "url(", "eval(", "innerHTML ="] {
                assert!(!asset.content.contains(word), "{} has {word}", asset.path);
            }
        }
    }

    /// WCAG's relative luminance of `#rrggbb`.
    fn luminance(color: &str) -> f64 {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn every_colour_of_text_can_be_read_in_both_schemes() {
        let schemes: Vec<&str> = STYLE.content.split(":root {").skip(1).take(2).collect();
        assert_eq!(schemes.len(), 2);
        for scheme in schemes {
            let color = |name: &str| {
                let start = scheme.find(&format!("--{name}: #")).unwrap() + name.len() + 4;
                luminance(&scheme[start..start + 7])
            };
            for text in ["ink", "soft", "accent", "warn", "bad"] {
                for ground in ["paper", "wash"] {
                    let (a, b) = (color(text), color(ground));
                    let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                    assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
                }
            }
        }
    }
}
