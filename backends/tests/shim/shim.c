/*
 * Preloaded into a child process that runs the store: writes down everything that changes files
 * below one folder, makes chosen calls fail, and plays a filesystem that has, or lacks, the inode
 * flag FS_SYNC_FL. Built and used by tests/crash; Linux and glibc only.
 *
 * Environment:
 *   TIDELOG_SHIM_ROOT     the folder, an absolute path without links; nothing else is touched
 *   TIDELOG_SHIM_TRACE    file to whose end one record a call is added (struct record in faults.h)
 *   TIDELOG_SHIM_FLAG     "inherited": the flag can be set, and files inherit it from their
 *                         directory, as on ext4; "per-file": it can be set, but covers what is
 *                         set itself only; "refused": it cannot be set, as on tmpfs; unset: ask
 *                         the filesystem
 *   TIDELOG_SHIM_FLAGGED  file naming, a line each, what has the emulated flag from before
 *   TIDELOG_SHIM_INJECT   "<class> <first> <last> <error number, or 0 for a short write> <part>":
 *                         which calls fail, counted among those whose path contains <part>
 *   TIDELOG_SHIM_DIE      the process ends, as if killed, when it has made this record
 *   TIDELOG_SHIM_COUNT    if set, how many calls of each class were made, and by how many
 *                         bytes files grew, is said at the end
 *   TIDELOG_SHIM_SPACE    bytes by which files may grow before the disk is full
 *
 * A call and its record are one step under a lock, so the trace has the order in which the calls
 * took effect. Syncs alone run outside of it, with a record before and one after: what is written
 * meanwhile is not covered by them.
 *
 * Only calls by way of libc are seen. The standard library and sled make all of theirs so; rustix
 * does by its feature `use-libc`, which the tests switch on. That nothing is missed is held by a
 * test that makes the folder again from the trace and compares.
 */
#define _GNU_SOURCE
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/fs.h>

#define REAL(name)                                                                                 \
    static __typeof__(name) *real;                                                                 \
    if (!real)                                                                                     \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);

static int opened(int dir, const char *path, int flags, mode_t mode) {
    REAL(openat64)
    char inside[PATH_MAX];
    if (!path_at(dir, path, inside))
        return real(dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before;
    int there = fstatat(dir, path, &before, 0) == 0;
    int fd = -1;
    if (!fails(OPEN, inside) && (there || !(flags & O_CREAT) || !no_room())) {
        fd = real(dir, path, flags, mode);
        uint64_t inode = fd < 0 ? 0 : inode_of(fd);
        if (fd >= 0 && !there) {
            struct stat parent;
            char *copy = strdup(path), *slash = strrchr(copy, '/');
            if (slash)
                *slash = '\0';
            if (flag_mode == INHERITED && fstatat(dir, slash ? copy : ".", &parent, 0) == 0 &&
                is_flagged(parent.st_ino))
                set_flagged(inode);
            free(copy);
            note(OP_CREATE, inode, mode_of(fd), is_flagged(inode), inside, "", 0);
        } else if (fd >= 0) {
            note(OP_OPEN, inode, 0, 0, inside, "", 0);
            if ((flags & O_TRUNC) && before.st_size > 0)
                note(OP_TRUNCATE, inode, 0, is_flagged(inode), inside, "", 0);
        }
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

static mode_t mode_argument(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN_WRAPPER(name)                                                                         \
    int name(const char *path, int flags, ...) {                                                   \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = mode_argument(flags, arguments);                                             \
        va_end(arguments);                                                                         \
        return opened(AT_FDCWD, path, flags, mode);                                                \
    }
OPEN_WRAPPER(open)
OPEN_WRAPPER(open64)

#define OPENAT_WRAPPER(name)                                                                       \
    int name(int dir, const char *path, int flags, ...) {                                          \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = mode_argument(flags, arguments);                                             \
        va_end(arguments);                                                                         \
        return opened(dir, path, flags, mode);                                                     \
    }
OPENAT_WRAPPER(openat)

int creat(const char *path, mode_t mode) {
    return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* `offset` is -1 for a write at the file's own place. */
static ssize_t written(int fd, const void *data, size_t len, off_t offset) {
    char inside[PATH_MAX];
    int ours = path_of_fd(fd, inside);
    if (ours)
        pthread_mutex_lock(&lock);
    ssize_t done = (ssize_t)len;
    if (ours) {
        off_t at = offset;
        if (at < 0)
            at = fcntl(fd, F_GETFL) & O_APPEND ? size_of(fd) : lseek(fd, 0, SEEK_CUR);
        done = admitted(fd, inside, at, len);
    }
    if (done >= 0)
        done = offset < 0 ? real_write(fd, data, (size_t)done)
                          : syscall(SYS_pwrite64, fd, data, (size_t)done, offset);
    int error = errno;
    if (ours) {
        if (done > 0) {
            uint64_t inode = inode_of(fd);
            off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset;
            note(OP_WRITE, inode, (uint64_t)at, durable_writes(fd, inode), inside, data,
                 (size_t)done);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t len) { return written(fd, data, len, -1); }

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) {
    return written(fd, data, len, offset);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) {
    return written(fd, data, len, offset);
}

static ssize_t gathered(int fd, const struct iovec *parts, int count, off_t offset) {
    size_t len = 0, at = 0;
    for (int part = 0; part < count; part++)
        len += parts[part].iov_len;
    char *whole = malloc(len ? len : 1);
    if (!whole)
        stop("no memory");
    for (int part = 0; part < count; part++) {
        memcpy(whole + at, parts[part].iov_base, parts[part].iov_len);
        at += parts[part].iov_len;
    }
    ssize_t done = written(fd, whole, len, offset);
    int error = errno;
    free(whole);
    errno = error;
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return gathered(fd, parts, count, -1);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return gathered(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return gathered(fd, parts, count, offset);
}

static int synced(int fd, long number) {
    char inside[PATH_MAX];
    if (!path_of_fd(fd, inside))
        return (int)syscall(number, fd);
    uint64_t inode = inode_of(fd);
    pthread_mutex_lock(&lock);
    int failing = fails(SYNC, inside), error = errno;
    if (failing)
        note(OP_SYNC_FAILED, inode, 0, 0, inside, "", 0);
    else
        note(OP_SYNC_BEGIN, inode, number == SYS_fdatasync, 0, inside, "", 0);
    pthread_mutex_unlock(&lock);
    if (failing) {
        errno = error;
        return -1;
    }
    int done = (int)syscall(number, fd);
    error = errno;
    if (done == 0) {
        pthread_mutex_lock(&lock);
        note(OP_SYNC_END, inode, 0, 0, inside, "", 0);
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return done;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }

int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* Promises nothing on its own: it neither writes metadata nor empties the disk's cache. */
int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags) {
    char inside[PATH_MAX];
    if (path_of_fd(fd, inside)) {
        pthread_mutex_lock(&lock);
        int failing = fails(RANGE, inside), error = errno;
        pthread_mutex_unlock(&lock);
        if (failing) {
            errno = error;
            return -1;
        }
    }
    return (int)syscall(SYS_sync_file_range, fd, offset, len, flags);
}

static int resized(int fd, off_t len) {
    char inside[PATH_MAX];
    if (!path_of_fd(fd, inside))
        return (int)syscall(SYS_ftruncate, fd, len);
    pthread_mutex_lock(&lock);
    int done = fails(TRUNCATE, inside) ? -1 : (int)syscall(SYS_ftruncate, fd, len);
    if (done == 0) {
        uint64_t inode = inode_of(fd);
        note(OP_TRUNCATE, inode, (uint64_t)len, is_flagged(inode), inside, "", 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ftruncate(int fd, off_t len) { return resized(fd, len); }

int ftruncate64(int fd, off64_t len) { return resized(fd, len); }

static int renamed(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char source[PATH_MAX], target[PATH_MAX];
    int ours = path_at(from_dir, from, source), theirs = path_at(to_dir, to, target);
    if (ours != theirs)
        stop("a rename into or out of the folder is not modelled");
    if (!ours)
        return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    int done = fails(RENAME, source)
                   ? -1
                   : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (done == 0)
        note(OP_RENAME, 0, 0, 0, source, target, strlen(target));
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renamed(from_dir, from, to_dir, to, 0);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return renamed(from_dir, from, to_dir, to, flags);
}

static int removed(int dir, const char *path, int flags) {
    char inside[PATH_MAX];
    if (!path_at(dir, path, inside))
        return (int)syscall(SYS_unlinkat, dir, path, flags);
    pthread_mutex_lock(&lock);
    int done = fails(UNLINK, inside) ? -1 : (int)syscall(SYS_unlinkat, dir, path, flags);
    if (done == 0)
        note(OP_UNLINK, 0, 0, 0, inside, "", 0);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

int unlinkat(int dir, const char *path, int flags) { return removed(dir, path, flags); }

static int made_dir(int dir, const char *path, mode_t mode) {
    char inside[PATH_MAX];
    if (!path_at(dir, path, inside))
        return (int)syscall(SYS_mkdirat, dir, path, mode);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!fails(MKDIR, inside) && !no_room())
        done = (int)syscall(SYS_mkdirat, dir, path, mode);
    if (done == 0) {
        struct stat made;
        if (fstatat(dir, path, &made, 0) != 0)
            stop("a directory just made is gone");
        note(OP_MKDIR, made.st_ino, made.st_mode & 0777, 0, inside, "", 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int mkdir(const char *path, mode_t mode) { return made_dir(AT_FDCWD, path, mode); }

int mkdirat(int dir, const char *path, mode_t mode) { return made_dir(dir, path, mode); }

int chmod(const char *path, mode_t mode) {
    REAL(chmod)
    char inside[PATH_MAX];
    if (!path_at(AT_FDCWD, path, inside))
        return real(path, mode);
    pthread_mutex_lock(&lock);
    int done = real(path, mode);
    struct stat found;
    if (done == 0 && stat(path, &found) == 0)
        note(OP_CHMOD, found.st_ino, mode, 0, inside, "", 0);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    char inside[PATH_MAX];
    int about_flags = request == FS_IOC_GETFLAGS || request == FS_IOC_SETFLAGS;
    if (!about_flags || flag_mode == PASS || !path_of_fd(fd, inside))
        return (int)syscall(SYS_ioctl, fd, request, argument);
    if (flag_mode == REFUSED) {
        errno = ENOTTY;
        return -1;
    }
    pthread_mutex_lock(&lock);
    uint64_t inode = inode_of(fd);
    if (request == FS_IOC_GETFLAGS) {
        *(int *)argument = is_flagged(inode) ? FS_SYNC_FL : 0;
    } else if (*(int *)argument & FS_SYNC_FL) {
        set_flagged(inode);
        note(OP_FLAG, inode, 0, 0, inside, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return 0;
}
