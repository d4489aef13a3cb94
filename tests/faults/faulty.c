/* A disk and a clock that misbehave on purpose: preloaded (LD_PRELOAD) into Python, it sees the system calls of
 * Python, SQLite, TensorStore and Arrow alike.
 *
 * Calls on paths that contain FAULT_PATH are counted in a memory that all processes share (the file FAULT_COUNT);
 * from number `at` on, `length` of them fail with `error`, or take 5 ms, or the process ends, before or after the call is made.
 * CLOCK_SHIFT moves the wall clock; the monotonic clock, as in life, stays what it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, NAME = 4, MAKE = 8, READ = 16 };
enum { FAIL = 0, TEAR = 1, KILL_BEFORE = 2, KILL_AFTER = 3, SLOW = 4 };

/* The same fields, in the same order, in faulty.py. */
struct plan { _Atomic int64_t calls; int64_t at, length, error, mode, kinds; };
static struct plan *plan;
static const char *watched;
static double shift;
static int wobble;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULT_COUNT"), *text = getenv("CLOCK_SHIFT");
    watched = getenv("FAULT_PATH");
    shift = text ? atof(text) : 0;
    wobble = getenv("CLOCK_WOBBLE") != NULL;
    int handle = file ? open(file, O_RDWR) : -1;
    void *found = handle < 0 ? MAP_FAILED : mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    if (found != MAP_FAILED && watched) plan = found;
}

static const char *path_of(int handle, char *buffer) {
    char name[40];
    snprintf(name, sizeof name, "/proc/self/fd/%d", handle);
    ssize_t size = readlink(name, buffer, PATH_MAX - 1);
    buffer[size < 0 ? 0 : size] = 0;
    return buffer;
}

/* Return whether this call is to go wrong, and let it if that is the end of the process. */
static int wrong(const char *path, int kind) {
    if (!plan || !path || !(plan->kinds & kind) || !strstr(path, watched)) return 0;
    int64_t number = atomic_fetch_add(&plan->calls, 1) + 1;
    int hit = plan->at > 0 && number >= plan->at && number - plan->at < plan->length;
    if (hit && plan->mode == KILL_BEFORE) raise(SIGKILL);
    if (hit && plan->mode == SLOW) usleep(5000);
    return hit && plan->mode != SLOW;
}

static int wrong_at(int handle, int kind) {
    char buffer[PATH_MAX];
    return plan && (plan->kinds & kind) ? wrong(path_of(handle, buffer), kind) : 0;
}

/* Make the call, or what is left of it, and end the process or return the error. */
#define ACT(bad, call, torn) \
    if (!(bad)) return call; \
    if (plan->mode == KILL_AFTER) { (void)!(call); raise(SIGKILL); } \
    if (plan->mode == TEAR) { (void)!(torn); } \
    errno = (int)plan->error; \
    return -1

ssize_t write(int handle, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    ACT(wrong_at(handle, WRITE), real(handle, data, size), real(handle, data, size / 2));
}
ssize_t pwrite(int handle, const void *data, size_t size, off_t at) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    ACT(wrong_at(handle, WRITE), real(handle, data, size, at), real(handle, data, size / 2, at));
}
ssize_t pwrite64(int handle, const void *data, size_t size, off_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
    ACT(wrong_at(handle, WRITE), real(handle, data, size, at), real(handle, data, size / 2, at));
}
ssize_t writev(int handle, const struct iovec *pieces, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    ACT(wrong_at(handle, WRITE), real(handle, pieces, count), real(handle, pieces, count / 2));
}
ssize_t pwritev(int handle, const struct iovec *pieces, int count, off_t at) {
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
    ACT(wrong_at(handle, WRITE), real(handle, pieces, count, at), real(handle, pieces, count / 2, at));
}
int ftruncate(int handle, off_t size) {
    REAL(int, ftruncate, int, off_t);
    ACT(wrong_at(handle, WRITE), real(handle, size), 0);
}
int ftruncate64(int handle, off_t size) {
    REAL(int, ftruncate64, int, off_t);
    ACT(wrong_at(handle, WRITE), real(handle, size), 0);
}
int fsync(int handle) {
    REAL(int, fsync, int);
    ACT(wrong_at(handle, SYNC), real(handle), 0);
}
int fdatasync(int handle) {
    REAL(int, fdatasync, int);
    ACT(wrong_at(handle, SYNC), real(handle), 0);
}
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    ACT(wrong(to, NAME), real(from, to), 0);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    ACT(wrong(to, NAME), real(a, from, b, to), 0);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    ACT(wrong(to, NAME), real(a, from, b, to, flags), 0);
}
int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    ACT(wrong(to, NAME), real(from, to), 0);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    ACT(wrong(to, NAME), real(a, from, b, to, flags), 0);
}
int unlink(const char *path) {
    REAL(int, unlink, const char *);
    ACT(wrong(path, NAME), real(path), 0);
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    ACT(wrong(path, MAKE), real(path, mode), 0);
}
ssize_t read(int handle, void *data, size_t size) {
    REAL(ssize_t, read, int, void *, size_t);
    ACT(wrong_at(handle, READ), real(handle, data, size), 0);
}
ssize_t pread(int handle, void *data, size_t size, off_t at) {
    REAL(ssize_t, pread, int, void *, size_t, off_t);
    ACT(wrong_at(handle, READ), real(handle, data, size, at), 0);
}
ssize_t pread64(int handle, void *data, size_t size, off_t at) {
    REAL(ssize_t, pread64, int, void *, size_t, off_t);
    ACT(wrong_at(handle, READ), real(handle, data, size, at), 0);
}

#define OPENER(name, real_call, ...) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    } \
    ACT((flags & O_CREAT) && wrong(path, MAKE), real_call, 0)

int open(const char *path, int flags, ...) {
    REAL(int, open, const char *, int, ...);
    OPENER(open, real(path, flags, mode));
}
int open64(const char *path, int flags, ...) {
    REAL(int, open64, const char *, int, ...);
    OPENER(open64, real(path, flags, mode));
}
int openat(int folder, const char *path, int flags, ...) {
    REAL(int, openat, int, const char *, int, ...);
    OPENER(openat, real(folder, path, flags, mode));
}
int openat64(int folder, const char *path, int flags, ...) {
    REAL(int, openat64, int, const char *, int, ...);
    OPENER(openat64, real(folder, path, flags, mode));
}

/* Processes disagree about the time by up to `shift`; with CLOCK_WOBBLE each one's clock jumps ahead and back. */
static double skew(void) {
    static _Atomic long readings;
    if (!shift) return 0;
    if (wobble) return (atomic_fetch_add(&readings, 1) / 7) % 2 ? shift : -shift;
    return getenv("CLOCK_SKEW") ? shift * (getpid() % 3 - 1) : shift;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int status = real(clock, now);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += (time_t)skew();
    return status;
}
int gettimeofday(struct timeval *now, void *zone) {
    REAL(int, gettimeofday, struct timeval *, void *);
    int status = real(now, zone);
    if (status == 0) now->tv_sec += (time_t)skew();
    return status;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
