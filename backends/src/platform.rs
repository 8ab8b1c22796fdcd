//! All that differs by operating system: syncing, locking, positions in files, modes, inode flags.
//!
//! Linux is tested. The other branches are written by the documents of their systems and untested;
//! `ARCHITECTURE.md` says so too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A fresh file for reading and writing, seen by its owner only. What has its name is removed
/// before: a link there would lead the writing elsewhere.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    private(OpenOptions::new().read(true).write(true).create_new(true)).open(path)
}

/// A file that may be there already, but is no link, for reading and writing.
pub(crate) fn open_or_create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, no_link);
    }
    options.read(true).write(true).create(true).truncate(false);
    private(&mut options).open(path)
}

/// A directory and its missing parents, seen by its owner only; their names survive a power cut.
/// Where it is there already its own name does: whoever made it may have been killed before that.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    let missing = path
        .ancestors()
        .take_while(|level| !is_there(level))
        .count();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    let mut parents = path.ancestors().skip(1);
    parents.by_ref().take(missing).try_for_each(sync_dir)?;
    match parents.next().map_or(Ok(()), sync_dir) {
        // Somebody else's directory, made long ago.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

/// Whether `path`, which may be missing, is `dir` or lies inside it, by way of whatever links.
pub(crate) fn lies_in(path: &Path, dir: &Path) -> io::Result<bool> {
    let real = |path: &Path| {
        let path = std::path::absolute(path)?;
        let there = path.ancestors().find(|level| level.exists());
        let inside = there.and_then(|there| path.strip_prefix(there).ok());
        let (there, inside) = (there.unwrap_or(&path), inside.unwrap_or(Path::new("")));
        io::Result::Ok(fs::canonicalize(there)?.join(inside))
    };
    Ok(real(path)?.starts_with(real(dir)?))
}

/// Whether `open` is the file that stands at `path`; where files have no numbers, whether one does.
pub(crate) fn is_at(open: &File, path: &Path) -> io::Result<bool> {
    let there = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        there => there?,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let open = open.metadata()?;
        Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = open;
        Ok(there.is_file())
    }
}

/// Makes names created, renamed or removed in `dir` survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    // The parent of a relative name.
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    // Windows has no such call: NTFS journals names by itself.
    if cfg!(unix) {
        File::open(dir)?.sync_all()
    } else {
        Ok(())
    }
}

/// Replaces `dir/name` whole: whatever happens, the old or the new content is there.
pub(crate) fn replace_file(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    let mut file = create_file(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    rename(&fresh, &dir.join(name))?;
    sync_dir(dir)
}

/// Renames a file nobody else should have open.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    retry_sharing(|| fs::rename(from, to))
}

/// Zeros written at once. Linux caches a file in pieces as large as it was written in: small reads find
/// their bytes sooner in large pieces, small commits have less to look through in small ones. Of 64 KiB
/// to 1 MiB this did best, or second, at both.
const FILL_CHUNK: usize = 1 << 18;

/// Writes zeros from `offset` to `end`.
pub(crate) fn zero_fill(file: &File, mut offset: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_CHUNK];
    while offset < end {
        let len = usize::try_from(end - offset)
            .unwrap_or(usize::MAX)
            .min(zeros.len());
        write_all_at(file, zeros.get(..len).unwrap_or(&zeros), offset)?;
        offset += len as u64;
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Fills `bytes` from `offset`.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Writes all of `bytes` at `offset`.
#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}

/// Fills `bytes` from `offset`.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = bytes.get_mut(read..).unwrap_or_default();
        offset += read as u64;
    }
    Ok(())
}

/// Makes a file that never changes again refuse writing.
pub(crate) fn make_read_only(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o400);
    #[cfg(not(unix))]
    permissions.set_readonly(true);
    fs::set_permissions(path, permissions)
}

/// Undoes [`make_read_only`].
pub(crate) fn make_writable(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    #[cfg(not(unix))]
    {
        #[allow(
            clippy::permissions_set_readonly_false,
            reason = "there are no modes here"
        )]
        permissions.set_readonly(false);
    }
    fs::set_permissions(path, permissions)
}

/// Takes a file or directory away from everybody but its owner.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let found = fs::symlink_metadata(path)?;
        let mode = if found.is_dir() { 0o700 } else { 0o600 };
        if found.permissions().mode() & 0o7777 != mode {
            return fs::set_permissions(path, fs::Permissions::from_mode(mode));
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Asks the filesystem to write everything in `dir` through to the disk (`chattr +S`): files made
/// in it afterwards inherit that on ext4. `false` where the filesystem lacks the flag.
pub(crate) fn set_sync_flag(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
        let Ok(file) = File::open(path) else {
            return false;
        };
        let Ok(flags) = ioctl_getflags(&file) else {
            return false;
        };
        flags.contains(IFlags::SYNC) || ioctl_setflags(&file, flags | IFlags::SYNC).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

/// Lets the timed waits of threads that `work` starts come up to an hour late where the system can be
/// told so; what they wait for wakes them at once as ever. `work` must not wait for time itself.
pub(crate) fn with_lazy_threads<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::set_current_timer_slack;
        // Threads inherit it. Where it is refused they wake more often, and nothing else changes.
        let hour = std::num::NonZeroU64::new(3_600_000_000_000);
        let _ = set_current_timer_slack(hour);
        let done = work();
        let _ = set_current_timer_slack(None);
        done
    }
    #[cfg(not(target_os = "linux"))]
    work()
}

/// How long this machine has slept since it was started, where the system tells; always zero elsewhere.
pub(crate) fn slept() -> std::time::Duration {
    #[cfg(target_os = "linux")]
    {
        use rustix::time::{ClockId, clock_gettime};
        // The one goes on while the machine sleeps.
        let (all, awake) = (
            clock_gettime(ClockId::Boottime),
            clock_gettime(ClockId::Monotonic),
        );
        let nanos = |time: rustix::time::Timespec| {
            i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
        };
        let slept = u64::try_from(nanos(all) - nanos(awake)).unwrap_or(0);
        std::time::Duration::from_nanos(slept)
    }
    #[cfg(not(target_os = "linux"))]
    std::time::Duration::ZERO
}

/// The name of this machine in its network.
pub(crate) fn host_name() -> String {
    #[cfg(unix)]
    {
        let name = rustix::system::uname();
        name.nodename().to_string_lossy().into_owned()
    }
    #[cfg(not(unix))]
    String::from("this machine")
}

/// This process and machine, for whoever finds the store locked.
pub(crate) fn describe_holder() -> String {
    let host = host_name();
    format!("process {} on {host}", std::process::id())
}

/// Whether some process holds a lock on the file, as far as the system tells without taking it: to try
/// would keep out whoever tries at the same moment.
pub(crate) fn is_locked(path: &Path) -> Option<bool> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(false),
            Err(_) => return None,
        };
        let (major, minor) = (
            rustix::fs::major(found.dev()),
            rustix::fs::minor(found.dev()),
        );
        let wanted = format!("{major:02x}:{minor:02x}:{}", found.ino());
        let locks = fs::read_to_string("/proc/locks").ok()?;
        // `1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF`; who waits has an arrow behind its number.
        Some(locks.lines().any(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            words.next() == Some("FLOCK") && words.nth(3) == Some(&wanted)
        }))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

/// On Windows a virus scanner or an indexer may hold a file for moments: tries again for a while.
fn retry_sharing<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    if !cfg!(windows) {
        return operation();
    }
    for _ in 0..50 {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            done => return done,
        }
    }
    operation()
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
