//! Dependencies go one way: a module uses only modules that `src/lib.rs` declares below it.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module makes the other's type: `Resolver::builder` and `Builder::build`.
const EXCEPTIONS: [(&str, &str); 1] = [("builder", "resolver")];

/// Returns the modules of `lib.rs`, in order. The last, `fuzzing`, is left out: it gives fuzz targets access to all of them.
fn modules(src: &Path) -> Vec<String> {
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let declared = lib.lines().filter_map(|line| line.strip_prefix("mod ")?.split(';').next());
    declared.map(str::to_owned).collect()
}

/// Returns the source files of a module, without its tests and models.
fn files(src: &Path, module: &str) -> Vec<PathBuf> {
    let mut files = vec![src.join(format!("{module}.rs")), src.join(module)];
    while let Some(folder) = files.iter().position(|path| path.is_dir()) {
        let entries = fs::read_dir(files.swap_remove(folder)).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    let is_test = |path: &Path| path.iter().any(|part| part == "tests" || part == "tests.rs" || part == "models.rs");
    files.retain(|path| path.is_file() && !is_test(path));
    files
}

/// Returns the modules of the crate that a file names.
fn used(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let ends = |c: char| !(c.is_alphanumeric() || c == '_');
    let paths = code.flat_map(|line| line.split("crate::").skip(1).filter_map(|path| path.split(ends).next()));
    paths.map(str::to_owned).collect()
}

#[test]
fn a_module_uses_only_those_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules = modules(&src);
    let place = |module: &str| modules.iter().position(|other| other == module);
    let mut uses = 0;
    for (here, module) in modules.iter().enumerate() {
        for file in files(&src, module) {
            for other in used(&file).iter().filter(|&other| other != module) {
                // The crate's own code does not use the re-exports of `lib.rs`.
                let there = place(other).unwrap_or_else(|| panic!("{}: crate::{other}", file.display()));
                let is_exception = EXCEPTIONS.contains(&(module, other));
                assert_ne!(here < there, is_exception, "{} uses crate::{other}", file.display());
                uses += 1;
            }
        }
    }
    assert!(uses > 50, "only {uses} uses were found");
}
