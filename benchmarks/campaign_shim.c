/* Faults of a disk and of a clock for `campaign.py`, loaded before the C library (LD_PRELOAD).

   Of every file below FAULT_ROOT the operations that change something are counted: open for writing, write, fsync, rename, unlink,
   mkdir, truncate. FAULT_AT=N chooses the N-th, and FAULT_DO what becomes of it: "kill" (the process ends before it), "half" (half
   of a write is done, then the process ends), "once" (it fails with FAULT_ERRNO), "fail" (it and all after it fail, as on a disk
   that is full and stays so; nothing is ever refused to unlink). FAULT_SLOW=MICROSECONDS sleeps before each. FAULT_COUNT=FILE gets
   the number of operations at the end. FAULT_CLOCK=DAYS sets the clock of the day, but not the monotonic one, that many days forward
   and back in turn, once a second. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long operations;
static const char *root, *deed;
static long at, slow, error_number, clock_days;

__attribute__((constructor)) static void read_environment(void) {
    const char *text;
    root = getenv("FAULT_ROOT");
    deed = getenv("FAULT_DO");
    at = (text = getenv("FAULT_AT")) ? atol(text) : 0;
    slow = (text = getenv("FAULT_SLOW")) ? atol(text) : 0;
    error_number = (text = getenv("FAULT_ERRNO")) ? atol(text) : ENOSPC;
    clock_days = (text = getenv("FAULT_CLOCK")) ? atol(text) : 0;
}

__attribute__((destructor)) static void write_count(void) {
    const char *path = getenv("FAULT_COUNT");
    char words[32];
    if (!path) return;
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int length = snprintf(words, sizeof words, "%ld\n", atomic_load(&operations));
    if (file >= 0 && syscall(SYS_write, file, words, length) == length) syscall(SYS_close, file);
}

static int below_root(const char *path) { return root && path && strncmp(path, root, strlen(root)) == 0; }

static int is_watched(int file) {
    char link[64], target[4096];
    if (!root) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return below_root(target);
}

/* Count one operation: 0 to go on, 1 to fail with errno set, 2 to do half of it and end. */
static int decide(int may_fail) {
    if (slow) {
        struct timespec pause = {slow / 1000000, slow % 1000000 * 1000};
        nanosleep(&pause, NULL);
    }
    long number = atomic_fetch_add(&operations, 1) + 1;
    if (!at || !deed) return 0;
    if (number == at && !strcmp(deed, "kill")) kill(getpid(), SIGKILL);
    if (number == at && !strcmp(deed, "half")) return 2;
    if (may_fail && ((number == at && !strcmp(deed, "once")) || (number >= at && !strcmp(deed, "fail")))) {
        errno = (int)error_number;
        return 1;
    }
    return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WATCHED_CALL(watched, may_fail, call)        \
    if (watched) {                                   \
        int verdict = decide(may_fail);              \
        if (verdict == 1) return -1;                 \
        if (verdict == 2) kill(getpid(), SIGKILL);   \
    }                                                \
    return call

#define OPENING(name)                                                                         \
    int name(const char *path, int flags, ...) {                                              \
        va_list list;                                                                         \
        va_start(list, flags);                                                                \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;               \
        va_end(list);                                                                         \
        WATCHED_CALL((flags & (O_WRONLY | O_RDWR)) && below_root(path), 1, REAL(name)(path, flags, mode)); \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name)                                                                      \
    int name(int folder, const char *path, int flags, ...) {                                  \
        va_list list;                                                                         \
        va_start(list, flags);                                                                \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;               \
        va_end(list);                                                                         \
        WATCHED_CALL((flags & (O_WRONLY | O_RDWR)) && below_root(path), 1, REAL(name)(folder, path, flags, mode)); \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

ssize_t write(int file, const void *data, size_t size) {
    if (is_watched(file)) {
        int verdict = decide(1);
        if (verdict == 1) return -1;
        if (verdict == 2) {
            syscall(SYS_write, file, data, size / 2);
            kill(getpid(), SIGKILL);
        }
    }
    return syscall(SYS_write, file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    WATCHED_CALL(is_watched(file), 1, REAL(writev)(file, parts, count));
}

int fsync(int file) { WATCHED_CALL(is_watched(file), 1, REAL(fsync)(file)); }
int rename(const char *from, const char *to) { WATCHED_CALL(below_root(to), 1, REAL(rename)(from, to)); }
int unlink(const char *path) { WATCHED_CALL(below_root(path), 0, REAL(unlink)(path)); }
int mkdir(const char *path, mode_t mode) { WATCHED_CALL(below_root(path), 1, REAL(mkdir)(path, mode)); }
int ftruncate64(int file, off64_t length) { WATCHED_CALL(is_watched(file), 1, REAL(ftruncate64)(file, length)); }
int ftruncate(int file, off_t length) { WATCHED_CALL(is_watched(file), 1, REAL(ftruncate)(file, length)); }

static long leap(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (now.tv_sec % 3 - 1) * clock_days * 86400;
}

int clock_gettime(clockid_t clock, struct timespec *result) {
    int status = (int)syscall(SYS_clock_gettime, clock, result);
    if (status == 0 && clock_days && clock == CLOCK_REALTIME) result->tv_sec += leap();
    return status;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone) {
    int status = (int)syscall(SYS_gettimeofday, result, zone);
    if (status == 0 && clock_days) result->tv_sec += leap();
    return status;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
