/* What the wrappers of shim.c stand on: shim.c says what it is all for. */
#ifndef TIDELOG_SHIM_FAULTS_H
#define TIDELOG_SHIM_FAULTS_H

#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

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

/* How a call stands in the trace. */
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

/* The program has names of its own. */
#pragma GCC visibility push(hidden)

/* What the filesystem makes of FS_SYNC_FL; PASS: whatever it does. */
enum flag_mode { PASS, INHERITED, PER_FILE, REFUSED };
extern enum flag_mode flag_mode;

/* Held for a call and its record. */
extern pthread_mutex_t lock;

ssize_t real_write(int fd, const void *data, size_t len);
void stop(const char *why);

/* Whether a call goes below the root; `out` gets the path that follows the root. */
int path_of_fd(int fd, char out[PATH_MAX]);
int path_at(int dir, const char *path, char out[PATH_MAX]);

uint64_t inode_of(int fd);
uint64_t mode_of(int fd);
off_t size_of(int fd);

void note(enum op op, uint64_t inode, uint64_t number, int sync, const char *path,
          const void *data, size_t len);

/* Whether this call of `class` is to fail; errno is set, unless it is to be a short write. */
int fails(enum class class, const char *path);
/* How many of the `len` bytes at `offset` are to be written; -1: fail with errno. */
ssize_t admitted(int fd, const char *path, off_t offset, size_t len);
/* Whether nothing new can be made; errno is set. */
int no_room(void);

int is_flagged(uint64_t inode);
void set_flagged(uint64_t inode);
int durable_writes(int fd, uint64_t inode);

#pragma GCC visibility pop

#endif
