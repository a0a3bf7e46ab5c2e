//! The files of the demo's page, as they are served: no build step, nothing fetched from elsewhere.
//!
//! The page imports the client from `/sdk/tidewire.js`, which the server serves beside these.

/// One file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFile {
    /// As in the request line.
    pub path: &'static str,
    pub content_type: &'static str,
    pub content: &'static [u8],
}

pub const FILES: &[PageFile] = &[
    html("/", include_bytes!("page/index.html")),
    css("/page.css", include_bytes!("page/page.css")),
    script("/page.js", include_bytes!("page/page.js")),
    script("/model.js", include_bytes!("page/model.js")),
    script("/tree.js", include_bytes!("page/tree.js")),
    script("/tiles.js", include_bytes!("page/tiles.js")),
    script("/detail.js", include_bytes!("page/detail.js")),
    script("/draw.js", include_bytes!("page/draw.js")),
];

const fn html(path: &'static str, content: &'static [u8]) -> PageFile {
    PageFile { path, content_type: "text/html; charset=utf-8", content }
}

const fn css(path: &'static str, content: &'static [u8]) -> PageFile {
    PageFile { path, content_type: "text/css; charset=utf-8", content }
}

const fn script(path: &'static str, content: &'static [u8]) -> PageFile {
    PageFile { path, content_type: "text/javascript; charset=utf-8", content }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_that_a_script_imports_is_served() {
        for script in FILES.iter().filter(|file| file.path.ends_with(".js")) {
            let text = std::str::from_utf8(script.content).unwrap();
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let from = line.split('\'').nth(1).unwrap_or_else(|| panic!("{}: {line}", script.path));
                let known = from == "/sdk/tidewire.js" || FILES.iter().any(|file| file.path == from.trim_start_matches('.'));
                assert!(known, "{} imports {from}", script.path);
            }
        }
    }

    #[test]
    fn values_are_never_taken_for_markup() {
        for file in FILES {
            let text = std::str::from_utf8(file.content).unwrap();
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(sink), "{} uses {sink}", file.path);
            }
        }
    }
}
