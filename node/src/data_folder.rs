//! The data folder: everything a node keeps.

use std::fs::{self, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use federation::identity::Identity;
use services::Environment;

use crate::config::{self, Checks, Config, Given, Sources};
use crate::damage::{self, Damage, in_words};
use crate::objects;

/// A data folder.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder {
    path: PathBuf,
}

/// Bytes of the secret that the first start makes.
const SECRET_BYTES: usize = 32;
/// The file by whose lock a restore under way is told from one that was cut short.
pub(crate) const RESTORE_LOCK: &str = "lock";
/// What everybody may do who is neither the owner nor of its group.
const OTHERS: u32 = 0o007;

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

    /// Folder of the database that a repair makes.
    pub(crate) fn repaired(&self) -> PathBuf {
        self.path.join("store.repaired")
    }

    /// Folder of uploaded objects.
    pub(crate) fn objects(&self) -> PathBuf {
        self.path.join(objects::OBJECTS)
    }

    /// The socket through which commands reach the node that serves.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// The configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.path.join(objects::CONFIG)
    }

    /// The file with the keys under which other nodes know this one.
    pub(crate) fn identity_file(&self) -> PathBuf {
        self.path.join("identity.json")
    }

    /// The keys of this node; the first time, they are made.
    pub(crate) fn identity(&self) -> anyhow::Result<Identity> {
        if let Some(identity) = self.identity_if_there()? {
            return Ok(identity);
        }
        let now = Environment::system().clock.now_ms();
        let identity = Identity::new(rand::random(), now);
        self.replace_identity(&identity)?;
        Ok(identity)
    }

    /// The keys of this node, if there are any yet.
    pub(crate) fn identity_if_there(&self) -> anyhow::Result<Option<Identity>> {
        let file = self.identity_file();
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        let read = std::str::from_utf8(&bytes).map_err(|error| error.to_string());
        let read = read.and_then(|text| Identity::read(text).map_err(|error| error.to_string()));
        match read {
            Ok(identity) => Ok(Some(identity)),
            Err(reason) => Err(Damage::IdentityDamaged { file, reason }.into()),
        }
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

    /// Refuses a folder in which there is nothing to work on, and says why.
    pub(crate) fn must_be_there(&self) -> anyhow::Result<()> {
        let path = self.path.display();
        let denied = |error: &io::Error| {
            let owner = fs::metadata(&self.path).map(|found| found.uid());
            let own = rustix::process::geteuid().as_raw();
            let who = match owner {
                Ok(owner) if owner != own => {
                    format!("; it belongs to user {owner}, and this is user {own}")
                }
                _ => String::new(),
            };
            anyhow::anyhow!("cannot open the data folder {path}: {}{who}", in_words(error))
        };
        match fs::read_dir(&self.path) {
            Ok(_) => self.must_be_whole()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("there is no data folder {path}; `entente init` makes it");
            }
            Err(error) => return Err(denied(&error)),
        }
        for file in [self.store(), self.secret_file(), self.config_file()] {
            match fs::symlink_metadata(&file) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(denied(&error)),
            }
        }
        bail!("{path} holds no data; `entente init` makes it")
    }

    /// Where a restore puts everything before it is known to be whole.
    pub(crate) fn restoring(&self) -> PathBuf {
        self.path.join("restoring")
    }

    /// Where older programs did.
    pub(crate) fn restoring_of_before(&self) -> PathBuf {
        self.path.join("store.restoring")
    }

    /// Refuses a folder in which a restore is under way or was cut short.
    pub(crate) fn must_be_whole(&self) -> anyhow::Result<()> {
        for left in [self.restoring(), self.restoring_of_before()] {
            if fs::symlink_metadata(&left).is_err() || self.is_restored(&left) {
                continue;
            }
            let lock = fs::File::open(left.join(RESTORE_LOCK)).map(|lock| lock.try_lock_shared());
            if matches!(lock, Ok(Err(TryLockError::WouldBlock))) {
                bail!("{} is being restored; wait until that has ended", self.path.display());
            }
            return Err(Damage::HalfRestored { data: self.path.clone(), left }.into());
        }
        Ok(())
    }

    /// Whether all that a restore brings has its place, and only the end of it is missing: the
    /// database is the last that gets it.
    fn is_restored(&self, left: &Path) -> bool {
        let brought = [left.join("store"), left.join("store.restoring")];
        *left == self.restoring()
            && self.store().exists()
            && !brought.iter().any(|path| path.exists())
    }

    /// Gives a file another name, under which nothing is there yet; returns that, if it was there.
    pub(crate) fn set_aside(&self, file: &Path) -> anyhow::Result<Option<PathBuf>> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut names = (1..).map(|n| file.with_file_name(format!("{name}.set-aside-{n}")));
        let Some(aside) = names.find(|name| fs::symlink_metadata(name).is_err()) else {
            return Ok(None);
        };
        match fs::rename(file, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot move {}", file.display())),
        }
    }

    /// Takes from everybody else what older programs, or whoever made the folder, left them of data
    /// and secrets; returns what could be reached, and whether it still can.
    pub(crate) fn close_to_others(&self) -> Vec<(PathBuf, bool)> {
        let mut reached = Vec::new();
        let config = self.config_file();
        let config = fs::read_to_string(&config)
            .is_ok_and(|text| config::holds_secret(&text))
            .then_some(config);
        let others = [self.store(), self.objects(), self.secret_file(), self.identity_file()];
        for path in others.into_iter().chain(config) {
            let Ok(found) = fs::metadata(&path) else { continue };
            let mode = found.permissions().mode();
            if mode & OTHERS != 0 {
                let closed = fs::Permissions::from_mode(mode & !OTHERS);
                reached.push((path.clone(), fs::set_permissions(&path, closed).is_err()));
            }
        }
        reached
    }

    /// Creates what is missing; returns whether this was the first start.
    pub(crate) fn prepare(&self) -> anyhow::Result<bool> {
        self.must_be_whole()?;
        let left = self.restoring();
        if self.is_restored(&left) && left.exists() {
            fs::remove_dir_all(&left)
                .with_context(|| format!("cannot remove {}", left.display()))?;
        }
        self.make()
    }

    /// Creates the folder and nothing in it.
    pub(crate) fn make_itself(&self) -> anyhow::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .with_context(|| format!("cannot create {}", self.path.display()))
    }

    /// As [`prepare`](Self::prepare), whatever a restore has left.
    pub(crate) fn make(&self) -> anyhow::Result<bool> {
        self.make_itself()?;
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
        let found = match self.identity_if_there() {
            // Whoever has to do with keys says so; the way out needs the configuration, too.
            Err(error) if damage::is_damage(&error) => None,
            found => found?,
        };
        let domain = found.and_then(|found| found.domain());
        let domain = domain.map(|domain| (domain, identity.as_path()));
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

/// Creates a file that only the owner can read; returns `false` if it is there already.
fn create_file(file: &Path, text: &str) -> anyhow::Result<bool> {
    if file.exists() {
        return Ok(false);
    }
    write_file(file, text)?;
    Ok(true)
}

/// Writes a file that only the owner can read.
pub(crate) fn write_file(file: &Path, text: &str) -> anyhow::Result<()> {
    // Written beside and renamed: a start that is cut short leaves no half file.
    let beside = file.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", beside.display()));
        }
        _ => {}
    }
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .with_context(|| format!("cannot create {}", beside.display()))?;
    writeln!(out, "{text}")?;
    out.sync_all()?;
    fs::rename(&beside, file)?;
    Ok(())
}
