/* What the shim keeps: where the root is, the trace, what is to fail, who has the flag. */
#define _GNU_SOURCE
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const class_names[] = {"none", "write",  "grow",     "sync",   "range",
                                          "open", "rename", "truncate", "unlink", "mkdir"};

enum { MOST_FLAGGED = 4096, DIED = 42 };

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_len;
static int trace_fd = -1;
enum flag_mode flag_mode;
static ino_t flagged[MOST_FLAGGED];
static size_t flagged_len;
static enum class inject_class;
static char inject_part[64];
static long inject_first, inject_last, seen[CLASSES];
static int inject_error;
static long dies_at = LONG_MAX, records;
static int64_t space = INT64_MAX, grown_by;
static int space_bounded;

ssize_t real_write(int fd, const void *data, size_t len) {
    return syscall(SYS_write, fd, data, len);
}

void stop(const char *why) {
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

int path_of_fd(int fd, char out[PATH_MAX]) {
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

int path_at(int dir, const char *path, char out[PATH_MAX]) {
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

uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

uint64_t mode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_mode & 0777 : 0;
}

off_t size_of(int fd) {
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

void note(enum op op, uint64_t inode, uint64_t number, int sync, const char *path,
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

int fails(enum class class, const char *path) {
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

ssize_t admitted(int fd, const char *path, off_t offset, size_t len) {
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

int no_room(void) {
    if (space_bounded && space <= 0) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

/* --- the inode flag ------------------------------------------------------------------------- */

int is_flagged(uint64_t inode) {
    for (size_t at = 0; at < flagged_len; at++)
        if (flagged[at] == inode)
            return 1;
    return 0;
}

void set_flagged(uint64_t inode) {
    if (is_flagged(inode))
        return;
    if (flagged_len == MOST_FLAGGED)
        flagged_len = 0; /* Only a process that looks at thousands of images gets here. */
    flagged[flagged_len++] = inode;
}

int durable_writes(int fd, uint64_t inode) {
    int flags = fcntl(fd, F_GETFL);
    return (flags >= 0 && (flags & (O_SYNC | O_DSYNC))) || is_flagged(inode);
}

/* --- the environment ------------------------------------------------------------------------- */

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
