//! What tests need besides Rust: PostgreSQL's server programs, Python with the vendors' SDKs, what
//! `crates/keystead-testkit/node` names of npm, and a browser.
//!
//! What always holds here: found is better than installed; installed once; no service of the
//! machine is started or changed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{command, find_in_path, root, run, target_dir};

/// The folder that holds `initdb` and `postgres`.
pub(crate) fn postgres_bin() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("KEYSTEAD_TEST_PG_BIN") {
        return Ok(dir.into());
    }
    if let Some(dir) = find_postgres() {
        return Ok(dir);
    }
    let missing = "PostgreSQL's server programs are missing: install your system's `postgresql` \
                   package, or set KEYSTEAD_TEST_PG_BIN to the folder that holds `initdb`";
    if !is_root() || find_in_path("apt-get").is_none() {
        bail!("{missing}");
    }
    install_postgres().context(missing)?;
    find_postgres().context(missing)
}

fn find_postgres() -> Option<PathBuf> {
    let complete = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, dir)| complete(dir))
        .collect();
    packaged.sort();
    packaged
        .pop()
        .map(|(_, dir)| dir)
        .or_else(|| find_in_path("initdb").filter(complete))
}

fn install_postgres() -> Result<()> {
    // Debian's package makes a cluster and starts it, unless it is told so beforehand.
    let settings = Path::new("/etc/postgresql-common/createcluster.conf");
    if !settings.exists() {
        fs::create_dir_all("/etc/postgresql-common")?;
        fs::write(settings, "create_main_cluster = false\n")?;
    }
    run(command("apt-get").args(["-qq", "update"]))?;
    run(command("apt-get")
        .args(["-qq", "-y", "--no-install-recommends"])
        .args(["-o", "Dpkg::Options::=--force-confold"])
        .args(["install", "postgresql"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("UCF_FORCE_CONFFOLD", "1"))
}

/// A Python that has what `requirements.txt` names.
pub(crate) fn python() -> Result<PathBuf> {
    if let Some(python) = env::var_os("KEYSTEAD_TEST_PYTHON") {
        return Ok(python.into());
    }
    let wanted = root().join("xtask/requirements.txt");
    let venv = target_dir().join("venv");
    let python = venv.join("bin/python");
    // Written last, so that a half-made environment is made again.
    let installed = venv.join("requirements.txt");
    if python.exists() && fs::read(&installed).ok() == Some(fs::read(&wanted)?) {
        return Ok(python);
    }
    if find_in_path("python3").is_none() {
        bail!("python3 is missing: install it, or set KEYSTEAD_TEST_PYTHON");
    }
    run(command("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv))
    .context(
        "python3 cannot make a virtual environment: install your system's `python3-venv` package",
    )?;
    run(command(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&wanted))
    .context("the Python packages of xtask/requirements.txt cannot be installed")?;
    fs::copy(&wanted, &installed)?;
    Ok(python)
}

/// A folder whose `node_modules` has what `crates/keystead-testkit/node/package.json` names.
pub(crate) fn node() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("KEYSTEAD_TEST_NODE") {
        return Ok(folder.into());
    }
    let wanted = root().join("crates/keystead-testkit/node");
    let folder = target_dir().join("node");
    // Written last, so that a half-made folder is made again.
    let installed = folder.join("installed-lock.json");
    let lock = wanted.join("package-lock.json");
    if fs::read(&installed).ok() == Some(fs::read(&lock)?) {
        return Ok(folder);
    }
    if find_in_path("npm").is_none() {
        bail!(
            "npm is missing: install your system's `nodejs` and `npm` packages, or set \
             KEYSTEAD_TEST_NODE to a folder with the modules of {}",
            wanted.join("package.json").display()
        );
    }
    fs::create_dir_all(&folder)?;
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(wanted.join(name), folder.join(name))?;
    }
    run(command("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder))
    .context("the npm packages of crates/keystead-testkit/node cannot be installed")?;
    fs::copy(&lock, &installed)?;
    Ok(folder)
}

/// A Chromium, to look at pages as people do.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(program) = env::var_os("KEYSTEAD_TEST_CHROMIUM") {
        return Ok(program.into());
    }
    let find = || {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        names
            .into_iter()
            .find_map(|name| Some(find_in_path(name)?.join(name)))
    };
    if let Some(program) = find() {
        return Ok(program);
    }
    let missing = "Chromium is missing: install your system's `chromium` package, or set \
                   KEYSTEAD_TEST_CHROMIUM to the program";
    if !is_root() || find_in_path("apt-get").is_none() {
        bail!("{missing}");
    }
    run(command("apt-get").args(["-qq", "update"]))?;
    run(command("apt-get")
        .args(["-qq", "-y", "--no-install-recommends"])
        .args(["install", "chromium"])
        .env("DEBIAN_FRONTEND", "noninteractive"))
    .context(missing)?;
    find().context(missing)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}
