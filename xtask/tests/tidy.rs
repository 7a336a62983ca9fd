//! What holds the house together, read off the manifests and the files: who may use whom, what
//! stays in one place, and how a file looks.
//!
//! Deliberately not here: what clippy can see (`clippy.toml`), and licences (`deny.toml`).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Crate, what of the workspace it may depend on, and what its tests may use besides.
///
/// `core ← store ← broker ← http ← keystead`; the test kit is in no released program.
const DIRECTION: &[(&str, &[&str], &[&str])] = &[
    ("keystead-core", &[], &[]),
    ("keystead-store", &["keystead-core"], &["keystead-testkit"]),
    (
        "keystead-broker",
        &["keystead-core", "keystead-store"],
        &["keystead-testkit"],
    ),
    (
        "keystead-http",
        &["keystead-core", "keystead-broker"],
        // A whole broker to test against needs a store.
        &["keystead-store", "keystead-testkit"],
    ),
    (
        "keystead",
        &[
            "keystead-core",
            "keystead-store",
            "keystead-broker",
            "keystead-http",
        ],
        &["keystead-testkit"],
    ),
    ("keystead-testkit", &["keystead-core"], &[]),
    ("keystead-bench", &["keystead-testkit"], &[]),
    ("xtask", &[], &[]),
];

/// Dependency, and the crates that may name it. Tests may name no more than the crate itself.
const HOMES: &[(&str, &[&str])] = &[
    ("tokio-postgres", &["keystead-store"]),
    ("tokio-postgres-rustls", &["keystead-store"]),
    ("deadpool", &["keystead-store"]),
    ("rusqlite", &["keystead-store"]),
    ("axum", &["keystead-http", "keystead-testkit"]),
    ("utoipa", &["keystead-http"]),
    ("hyper-rustls", &["keystead-broker"]),
    ("jsonwebtoken", &["keystead-broker", "keystead-testkit"]),
    ("clap", &["keystead"]),
    // The one place that draws randomness for what is sealed.
    ("getrandom", &["keystead-broker"]),
    // One way to do a thing: these do what another dependency does.
    ("log", &[]),
    ("rand", &[]),
    ("sqlx", &[]),
];

/// Text, why it stays where it is, and where that is.
const PLACES: &[(&str, &str, &[&str])] = &[
    (
        "aws_lc_rs::aead",
        "only core encrypts",
        &["crates/keystead-core/"],
    ),
    (
        "client::legacy",
        "only the broker calls out",
        &[
            "crates/keystead-broker/",
            "crates/keystead-testkit/",
            "bench/",
        ],
    ),
    (
        ".expose(",
        "only core and broker see a plaintext; a new key is shown once",
        &[
            "crates/keystead-core/",
            "crates/keystead-broker/",
            "crates/keystead-http/src/routes/keys.rs",
            "crates/keystead/src/commands/dev.rs",
            "crates/keystead/src/commands/keys.rs",
            "crates/keystead/src/commands/serve.rs",
            "crates/keystead-http/tests/house/",
            "fuzz/",
        ],
    ),
    (
        "rusqlite::",
        "only store speaks SQL",
        &["crates/keystead-store/"],
    ),
    (
        "tokio_postgres::",
        "only store speaks SQL",
        &["crates/keystead-store/"],
    ),
    (
        "env::var",
        "only the binary and what runs beside it read the environment",
        &[
            "crates/keystead/",
            "crates/keystead-testkit/",
            "xtask/",
            "bench/",
        ],
    ),
];

/// Crates that nothing may bring in, by whatever way: `deny.toml` says why each.
const BANNED: &[&str] = &[
    "native-tls",
    "openssl-sys",
    "reqwest",
    "ring",
    "tracing-log",
];

const MAX_LINES: usize = 600;
/// Files over the limit. May only shrink.
const TOO_LONG: &[&str] = &[];

const MAX_HEADER_LINES: usize = 15;

#[test]
fn crates_depend_on_each_other_only_in_the_direction_drawn() {
    let known: BTreeSet<&str> = DIRECTION.iter().map(|(name, ..)| *name).collect();
    let mut wrong = Vec::new();
    for package in packages() {
        let Some((_, normal, dev)) = DIRECTION.iter().find(|(name, ..)| *name == package.name)
        else {
            wrong.push(format!("{} is not in DIRECTION", package.name));
            continue;
        };
        for (dependency, is_dev) in &package.dependencies {
            let allowed = normal.contains(&dependency.as_str())
                || (*is_dev && dev.contains(&dependency.as_str()));
            if known.contains(dependency.as_str()) && !allowed {
                wrong.push(format!("{} may not depend on {dependency}", package.name));
            }
        }
    }
    assert_none("turn the dependency round, or move the code", &wrong);
}

#[test]
fn what_has_one_home_is_named_nowhere_else() {
    let mut wrong = Vec::new();
    for package in packages() {
        for (dependency, _) in &package.dependencies {
            let home = HOMES.iter().find(|(name, _)| name == dependency);
            if home.is_some_and(|(_, homes)| !homes.contains(&package.name.as_str())) {
                wrong.push(format!("{} may not depend on {dependency}", package.name));
            }
        }
    }
    assert_none("ask the crate that is its home", &wrong);
}

#[test]
fn nothing_that_is_banned_comes_in_by_a_dependency() {
    let tree = output(
        env!("CARGO"),
        &[
            "tree",
            "--workspace",
            "--offline",
            "--prefix=none",
            "--format={p}",
        ],
    );
    let names: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains("aws-lc-rs"), "not a list of crates:\n{tree}");
    let wrong: Vec<String> = BANNED
        .iter()
        .filter(|name| names.contains(*name))
        .map(|name| format!("{name}: `cargo tree --workspace --invert {name}` says by which way"))
        .collect();
    assert_none("leave out the feature that brings it", &wrong);
}

#[test]
fn what_has_one_place_is_written_nowhere_else() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        if path == "xtask/tests/tidy.rs" {
            continue;
        }
        for (needle, why, places) in PLACES {
            if text.contains(needle) && !places.iter().any(|place| path.starts_with(place)) {
                wrong.push(format!("{path}: `{needle}`: {why}"));
            }
        }
    }
    assert_none("ask the crate that is its place", &wrong);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let mut wrong = Vec::new();
    for package in packages() {
        let manifest = fs::read_to_string(&package.manifest).unwrap();
        if !manifest.contains("[lints]\nworkspace = true\n") {
            wrong.push(package.manifest);
        }
    }
    assert_none("add `[lints] workspace = true`", &wrong);
}

#[test]
fn every_shared_dependency_is_used_by_a_crate() {
    let used: BTreeSet<String> = packages()
        .into_iter()
        .flat_map(|package| package.dependencies)
        .map(|(name, _)| name)
        .collect();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, table) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let wrong: Vec<String> = table
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once(" = ")?.0.to_owned()))
        .filter(|name| !name.starts_with('#') && !used.contains(name))
        .collect();
    assert_none("take it out of [workspace.dependencies]", &wrong);
}

#[test]
fn every_module_says_what_it_is_for_in_a_few_lines() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let header = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .count();
        if header == 0 {
            wrong.push(format!("{path}: does not begin with `//!`"));
        } else if header > MAX_HEADER_LINES {
            wrong.push(format!("{path}: {header} lines of `//!`"));
        }
    }
    assert_none(
        "say what it is for, what always holds, what is not here",
        &wrong,
    );
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        let listed = TOO_LONG.contains(&path.as_str());
        if lines > MAX_LINES && !listed {
            wrong.push(format!("{path}: {lines} lines"));
        } else if lines <= MAX_LINES && listed {
            wrong.push(format!("{path}: is short enough now, take it off TOO_LONG"));
        }
    }
    assert_none("split it by what it is about", &wrong);
}

#[test]
fn nothing_committed_names_a_machine_or_a_registry_host() {
    // Put together here, so that this file does not name them either.
    let folders = ["work", "root"].map(|name| format!("/{name}/"));
    let hosts = [
        ["crates", ".io/api"],
        ["index.crates", ".io"],
        ["static.crates", ".io"],
        ["deb.debian", ".org"],
        ["files.pythonhosted", ".org"],
        ["pypi", ".org"],
        ["registry.npmjs", ".org"],
    ]
    .map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for (path, text) in committed() {
        for (number, line) in text.lines().enumerate() {
            let folder = folders.iter().any(|folder| names_folder(line, folder));
            let host = hosts.iter().any(|host| line.contains(host.as_str()));
            if folder || host {
                wrong.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none("say it so that it holds on any machine", &wrong);
}

/// Whether `line` holds the absolute path `folder`, and not a longer path that ends in it.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !"/_-.~})>*".contains(before))
    })
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |kind: &str| -> BTreeSet<String> {
        fs::read_dir(root().join("migrations").join(kind))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert_eq!(names("postgres"), names("sqlite"));
}

#[test]
fn every_relative_link_in_a_document_leads_to_a_file() {
    let mut wrong = Vec::new();
    for (path, text) in committed() {
        if !path.ends_with(".md") {
            continue;
        }
        let folder = root().join(&path).parent().unwrap().to_owned();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', ' ', '\n']).next())
        {
            let target = link.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !elsewhere && !folder.join(target).exists() {
                wrong.push(format!("{path}: {link}"));
            }
        }
    }
    assert_none("write the document, or take the link out", &wrong);
}

struct Package {
    name: String,
    manifest: String,
    /// Name, and whether only tests use it.
    dependencies: Vec<(String, bool)>,
}

/// The workspace's own packages.
fn packages() -> Vec<Package> {
    let metadata = output(
        env!("CARGO"),
        &["metadata", "--format-version=1", "--no-deps", "--offline"],
    );
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            manifest: text(&package["manifest_path"]),
            dependencies: list(&package["dependencies"])
                .iter()
                .map(|dependency| (text(&dependency["name"]), dependency["kind"] == "dev"))
                .collect(),
        })
        .collect()
}

/// Every committed Rust file, by its path from the root.
fn rust_files() -> Vec<(String, String)> {
    let files: Vec<_> = committed()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .collect();
    assert!(files.len() > 20, "found only {} Rust files", files.len());
    files
}

/// Every text file that is committed, or would be by `git add --all`, by its path from the root.
fn committed() -> Vec<(String, String)> {
    let arguments = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    output("git", &arguments)
        .split_terminator('\0')
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(root().join(path)).ok()?)))
        .collect()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn assert_none(instead: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{instead}:\n  {}", wrong.join("\n  "));
}
