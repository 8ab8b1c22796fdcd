/*
 * Preloaded into a child process that runs the store: writes down everything that changes files
 * below one folder, makes chosen calls fail, and plays a filesystem that has, or lacks, the inode
 * flag FS_SYNC_FL. Built and used by tests/crash; Linux and glibc only.
 *
 * Environment:
 *   TIDELOG_SHIM_ROOT     the folder, an absolute path without links; nothing else is touched
 *   TIDELOG_SHIM_TRACE    file to whose end one record a call is added (struct record below)
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
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/fs.h>

enum op {
    OP_CREATE = 1, /* number: mode; sync: whether the file has the flag */
    OP_WRITE,      /* offset, data; sync: durable when it returned */
    OP_TRUNCATE,   /* number: the new length */
    OP_SYNC_BEGIN, /* number: 1 for fdatasync */
    OP_SYNC_END,
    OP_SYNC_FAILED,
    OP_RENAME, /* data: the new path */
    OP_UNLINK, /* of files and of directories */
    OP_MKDIR,
    OP_CHMOD, /* number: mode */
    OP_FLAG,  /* the flag was set */
    OP_OPEN,  /* of what was there: counted, changes nothing */
};

struct record {
    uint32_t op;
    uint32_t thread;
    uint64_t inode;
    uint64_t number;
    uint32_t sync;
    uint32_t path_len;
    uint64_t data_len;
    /* path relative to the root, then data */
};

enum class { NONE, WRITE, GROW, SYNC, RANGE, OPEN, RENAME, TRUNCATE, UNLINK, MKDIR, CLASSES };
static const char *const class_names[] = {"none", "write",  "grow",     "sync",   "range",
                                          "open", "rename", "truncate", "unlink", "mkdir"};

enum { MOST_FLAGGED = 4096, DIED = 42 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_len;
static int trace_fd = -1;
static enum { PASS, INHERITED, PER_FILE, REFUSED } flag_mode;
static ino_t flagged[MOST_FLAGGED];
static size_t flagged_len;
static enum class inject_class;
static char inject_part[64];
static long inject_first, inject_last, seen[CLASSES];
static int inject_error;
static long dies_at = LONG_MAX, records;
static int64_t space = INT64_MAX, grown_by;
static int space_bounded;

#define REAL(name)                                                                                 \
    static __typeof__(name) *real;                                                                 \
    if (!real)                                                                                     \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);

static ssize_t real_write(int fd, const void *data, size_t len) {
    return syscall(SYS_write, fd, data, len);
}

static void stop(const char *why) {
    dprintf(2, "shim: %s\n", why);
    abort();
}

/* --- where a call goes ---------------------------------------------------------------------- */

/* Whether the path is the root or below it; `out` gets what follows the root, without a slash. */
static int below_root(const char *path, char out[PATH_MAX]) {
    if (!root_len || strncmp(path, root, root_len) != 0)
        return 0;
    const char *rest = path + root_len;
    if (*rest != '\0' && *rest != '/')
        return 0;
    while (*rest == '/')
        rest++;
    snprintf(out, PATH_MAX, "%s", rest);
    size_t len = strlen(out);
    while (len && out[len - 1] == '/')
        out[--len] = '\0';
    return 1;
}

static int path_of_fd(int fd, char out[PATH_MAX]) {
    char link[64], target[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, target, sizeof target - 1);
    if (len < 0)
        return 0;
    target[len] = '\0';
    char *deleted = strstr(target, " (deleted)");
    if (deleted)
        *deleted = '\0';
    return below_root(target, out);
}

static int path_at(int dir, const char *path, char out[PATH_MAX]) {
    char whole[2 * PATH_MAX], base[PATH_MAX];
    if (!root_len)
        return 0;
    if (path[0] == '/')
        return below_root(path, out);
    if (dir == AT_FDCWD) {
        if (!getcwd(base, sizeof base))
            return 0;
    } else {
        char inside[PATH_MAX];
        if (!path_of_fd(dir, inside))
            return 0;
        snprintf(base, sizeof base, "%.*s/%.*s", PATH_MAX / 2, root, PATH_MAX / 2 - 2, inside);
    }
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return below_root(whole, out);
}

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

static uint64_t mode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_mode & 0777 : 0;
}

static off_t size_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_size : 0;
}

/* --- the trace ------------------------------------------------------------------------------ */

static void all(const void *data, size_t len) {
    while (len) {
        ssize_t done = real_write(trace_fd, data, len);
        if (done <= 0)
            stop("the trace cannot be written");
        data = (const char *)data + done;
        len -= (size_t)done;
    }
}

static void note(enum op op, uint64_t inode, uint64_t number, int sync, const char *path,
                 const void *data, size_t len) {
    if (trace_fd < 0)
        return;
    int error = errno;
    struct record record = {
        .op = op,
        .thread = (uint32_t)syscall(SYS_gettid),
        .inode = inode,
        .number = number,
        .sync = (uint32_t)sync,
        .path_len = (uint32_t)strlen(path),
        .data_len = len,
    };
    all(&record, sizeof record);
    all(path, record.path_len);
    all(data, len);
    if (++records == dies_at)
        _exit(DIED);
    errno = error;
}

/* --- failing on purpose --------------------------------------------------------------------- */

/* Whether this call of `class` is to fail; errno is set, unless it is to be a short write. */
static int fails(enum class class, const char *path) {
    if (!strstr(path, inject_part))
        return 0;
    long n = ++seen[class];
    if (class != inject_class || n < inject_first || n > inject_last)
        return 0;
    if (n == inject_first)
        dprintf(2, "shim: %s %ld of '%s' gets %d\n", class_names[class], n, path, inject_error);
    errno = inject_error;
    return 1;
}

/* How many of the `len` bytes at `offset` are to be written; -1: fail with errno. */
static ssize_t admitted(int fd, const char *path, off_t offset, size_t len) {
    off_t grown = offset + (off_t)len - size_of(fd);
    int failing = fails(WRITE, path);
    if (grown > 0)
        failing |= fails(GROW, path);
    if (failing) {
        if (inject_error)
            return -1;
        return len > 1 ? (ssize_t)(len / 2) : (ssize_t)len;
    }
    grown_by += grown > 0 ? grown : 0;
    if (!space_bounded || grown <= 0)
        return (ssize_t)len;
    if (grown > space) {
        size_t room = len - (size_t)grown + (size_t)space;
        space = 0;
        if (room == 0 || room > len) {
            errno = ENOSPC;
            return -1;
        }
        return (ssize_t)room;
    }
    space -= grown;
    return (ssize_t)len;
}

static int no_room(void) {
    if (space_bounded && space <= 0) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

/* --- the inode flag ------------------------------------------------------------------------- */

static int is_flagged(uint64_t inode) {
    for (size_t at = 0; at < flagged_len; at++)
        if (flagged[at] == inode)
            return 1;
    return 0;
}

static void set_flagged(uint64_t inode) {
    if (is_flagged(inode))
        return;
    if (flagged_len == MOST_FLAGGED)
        flagged_len = 0; /* Only a process that looks at thousands of images gets here. */
    flagged[flagged_len++] = inode;
}

static int durable_writes(int fd, uint64_t inode) {
    int flags = fcntl(fd, F_GETFL);
    return (flags >= 0 && (flags & (O_SYNC | O_DSYNC))) || is_flagged(inode);
}

/* --- wrappers ------------------------------------------------------------------------------- */

__attribute__((constructor)) static void begin(void) {
    const char *value = getenv("TIDELOG_SHIM_ROOT");
    if (!value)
        return;
    snprintf(root, sizeof root, "%s", value);
    const char *flag = getenv("TIDELOG_SHIM_FLAG");
    if (flag)
        flag_mode = strcmp(flag, "inherited") == 0  ? INHERITED
                    : strcmp(flag, "per-file") == 0 ? PER_FILE
                                                    : REFUSED;
    if ((value = getenv("TIDELOG_SHIM_FLAGGED"))) {
        FILE *list = fopen(value, "re");
        char line[PATH_MAX];
        while (list && fgets(line, sizeof line, list)) {
            struct stat found;
            line[strcspn(line, "\n")] = '\0';
            if (stat(line, &found) == 0)
                set_flagged(found.st_ino);
        }
        if (list)
            fclose(list);
    }
    if ((value = getenv("TIDELOG_SHIM_INJECT"))) {
        char class[16];
        if (sscanf(value, "%15s %ld %ld %d %63s", class, &inject_first, &inject_last,
                   &inject_error, inject_part) != 5)
            stop("TIDELOG_SHIM_INJECT cannot be read");
        for (int at = 0; at < CLASSES; at++)
            if (strcmp(class, class_names[at]) == 0)
                inject_class = (enum class)at;
    }
    if ((value = getenv("TIDELOG_SHIM_DIE")))
        dies_at = atol(value);
    if ((value = getenv("TIDELOG_SHIM_SPACE"))) {
        space = atoll(value);
        space_bounded = 1;
    }
    if ((value = getenv("TIDELOG_SHIM_TRACE"))) {
        trace_fd = (int)syscall(SYS_openat, AT_FDCWD, value,
                                O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (trace_fd < 0)
            stop("the trace cannot be made");
    }
    root_len = strlen(root);
}

__attribute__((destructor)) static void end(void) {
    if (!getenv("TIDELOG_SHIM_COUNT"))
        return;
    for (int class = WRITE; class < CLASSES; class++)
        dprintf(2, "shim: count %s %ld\n", class_names[class], seen[class]);
    dprintf(2, "shim: count bytes %ld\n", (long)grown_by);
}

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
