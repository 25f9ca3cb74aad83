//! The data folder: everything a node keeps.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use federation::identity::Identity;
use services::Environment;

use crate::config::{self, Checks, Config, Given, Sources};

/// A data folder.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder {
    path: PathBuf,
}

/// Bytes of the secret that the first start makes.
const SECRET_BYTES: usize = 32;

impl DataFolder {
    /// The data folder at `path`, which need not exist yet.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the database.
    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Folder of uploaded objects.
    pub(crate) fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// The socket through which commands reach the node that serves.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// The configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The file with the keys under which other nodes know this one.
    pub(crate) fn identity_file(&self) -> PathBuf {
        self.path.join("identity.json")
    }

    /// The keys of this node; the first time, they are made.
    pub(crate) fn identity(&self) -> anyhow::Result<Identity> {
        let file = self.identity_file();
        if !file.exists() {
            let now = Environment::system().clock.now_ms();
            create_file(&file, &Identity::new(rand::random(), now).write()?)?;
            self.sync_entries().with_context(|| format!("cannot sync {}", self.path.display()))?;
        }
        let text = read_if_there(&file)?;
        Identity::read(&text).with_context(|| format!("identity in {}", file.display()))
    }

    /// Writes other keys of this node.
    pub(crate) fn replace_identity(&self, identity: &Identity) -> anyhow::Result<()> {
        write_file(&self.identity_file(), &identity.write()?)?;
        self.sync_entries().with_context(|| format!("cannot sync {}", self.path.display()))
    }

    /// The file with the secret.
    pub(crate) fn secret_file(&self) -> PathBuf {
        self.path.join("secret")
    }

    /// Creates what is missing; returns whether this was the first start.
    pub(crate) fn prepare(&self) -> anyhow::Result<bool> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .with_context(|| format!("cannot create {}", self.path.display()))?;
        fs::create_dir_all(self.objects())
            .with_context(|| format!("cannot create {}", self.objects().display()))?;
        let secret: String =
            rand::random::<[u8; SECRET_BYTES]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let first = create_file(&self.secret_file(), &secret)?;
        create_file(&self.config_file(), &config::example()?)?;
        self.sync_entries().with_context(|| format!("cannot sync {}", self.path.display()))?;
        Ok(first)
    }

    /// Makes certain that the files are found again after a power cut: a file is only as durable
    /// as the folders on the way to it. Any of them may be new, even after a start cut short.
    fn sync_entries(&self) -> io::Result<()> {
        for folder in self.path.canonicalize()?.ancestors() {
            match fs::File::open(folder).and_then(|folder| folder.sync_all()) {
                // Not made by this node, which could not write there.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                done => done?,
            }
        }
        Ok(())
    }

    /// Checks the configuration in `file`, or else in the folder; what `options` give goes first.
    /// The secret is filled in, and the domain under which the folder has federated.
    ///
    /// # Errors
    /// [`Problems`](config::Problems): everything that is wrong with it.
    pub(crate) fn config(
        &self,
        file: Option<&Path>,
        options: &[Given],
        checks: Checks,
    ) -> anyhow::Result<Config> {
        let identity = self.identity_file();
        let domain = match read_if_there(&identity)? {
            text if text.is_empty() => None,
            text => {
                let read = Identity::read(&text);
                let read = read.with_context(|| format!("identity in {}", identity.display()))?;
                read.domain().map(|domain| (domain, identity.as_path()))
            }
        };
        let own = self.config_file();
        let sources = Sources {
            file: file.unwrap_or(&own),
            file_named: file.is_some(),
            variables: std::env::vars_os().collect(),
            options,
            secret_file: &self.secret_file(),
            domain,
            checks,
        };
        Ok(sources.read()?)
    }
}

fn read_if_there(file: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Creates a file that only the owner can read; returns `false` if it is there already.
fn create_file(file: &Path, text: &str) -> anyhow::Result<bool> {
    if file.exists() {
        return Ok(false);
    }
    write_file(file, text)?;
    Ok(true)
}

/// Writes a file that only the owner can read.
fn write_file(file: &Path, text: &str) -> anyhow::Result<()> {
    // Written beside and renamed: a start that is cut short leaves no half file.
    let beside = file.with_extension("new");
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .with_context(|| format!("cannot create {}", beside.display()))?;
    writeln!(out, "{text}")?;
    out.sync_all()?;
    fs::rename(&beside, file)?;
    Ok(())
}
