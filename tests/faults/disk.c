/* Preloaded into a server: makes the disk under one database fail or slow.
 *
 * FAULT_NAME      part of the paths that are meant, such as the database's name
 * FAULT_FILE      while this file exists, what it names fails: each line is
 *                 "sync ERRNO" or "write ERRNO", a number of errno.h
 * FSYNC_DELAY_US  fsync and fdatasync take so much longer, always
 * TRACE_FILE      writes, truncations and syncs are recorded there, see power.py
 *
 * The bundled SQLite calls the C library for all of these.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t tracing = PTHREAD_MUTEX_INITIALIZER;

/* The path of an open file if it is meant; NULL if not. */
static const char *meant(int fd, char *path, size_t size) {
  const char *name = getenv("FAULT_NAME");
  char link[64];
  if (!name) return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, size - 1);
  if (n < 0) return NULL;
  path[n] = 0;
  return strstr(path, name) && !strstr(path, "-shm") && !strstr(path, "-reserve") ? path : NULL;
}

/* The errno with which this kind of call fails now; 0 if it does not. */
static int fault(const char *kind) {
  const char *file = getenv("FAULT_FILE");
  FILE *lines = file ? fopen(file, "re") : NULL;
  char found[16];
  int number, result = 0;
  if (!lines) return 0;
  while (fscanf(lines, "%15s %d", found, &number) == 2)
    if (!strcmp(found, kind)) result = number;
  fclose(lines);
  return result;
}

/* One record: the kind (p: write, t: truncation, u: deletion, b and s: begin
 * and end of a sync), the file (d: database, w: log, j: journal), offset, length, data. */
static void trace(char kind, const char *path, off_t offset, const void *data, size_t length) {
  static int out = -1;
  const char *file = getenv("TRACE_FILE");
  if (!file) return;
  const char *end = strrchr(path, '-');
  char which = end && !strncmp(end, "-wal", 4) ? 'w' : end && !strncmp(end, "-journal", 8) ? 'j' : 'd';
  struct __attribute__((packed)) { char kind, file; uint64_t offset, length; } head = {
      kind, which, (uint64_t)offset, data ? length : 0};
  if (out < 0) out = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  NEXT(write)(out, &head, sizeof head);
  if (data && NEXT(write)(out, data, length) != (ssize_t)length) abort();
}

static int sync_with(int fd, int (*real)(int)) {
  char path[4096];
  const char *delay = getenv("FSYNC_DELAY_US");
  if (!meant(fd, path, sizeof path)) return real(fd);
  if (delay) {
    long us = atol(delay);
    struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&pause, NULL);
  }
  int number = fault("sync");
  if (number) {
    errno = number;
    return -1;
  }
  pthread_mutex_lock(&tracing);
  trace('b', path, 0, NULL, 0);
  pthread_mutex_unlock(&tracing);
  int result = real(fd);
  pthread_mutex_lock(&tracing);
  if (!result) trace('s', path, 0, NULL, 0);
  pthread_mutex_unlock(&tracing);
  return result;
}

int fsync(int fd) { return sync_with(fd, NEXT(fsync)); }
int fdatasync(int fd) { return sync_with(fd, NEXT(fdatasync)); }

/* A write at a place; "at" is -1 for the current one. */
static ssize_t write_with(int fd, const void *data, size_t length, off_t at) {
  char path[4096];
  int is_meant = meant(fd, path, sizeof path) != NULL;
  int number = is_meant ? fault("write") : 0;
  if (number) {
    errno = number;
    return -1;
  }
  off_t place = at >= 0 ? at : is_meant ? lseek(fd, 0, SEEK_CUR) : 0;
  if (is_meant) pthread_mutex_lock(&tracing);
  ssize_t n = at >= 0 ? NEXT(pwrite64)(fd, data, length, at) : NEXT(write)(fd, data, length);
  if (is_meant && n > 0) trace('p', path, place, data, (size_t)n);
  if (is_meant) pthread_mutex_unlock(&tracing);
  return n;
}

ssize_t write(int fd, const void *data, size_t length) { return write_with(fd, data, length, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return write_with(fd, data, length, at); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) { return write_with(fd, data, length, at); }

static int truncate_with(int fd, off_t length) {
  char path[4096];
  int is_meant = meant(fd, path, sizeof path) != NULL;
  int number = is_meant ? fault("write") : 0;
  if (number) {
    errno = number;
    return -1;
  }
  if (is_meant) pthread_mutex_lock(&tracing);
  int result = NEXT(ftruncate64)(fd, length);
  if (is_meant && !result) trace('t', path, length, NULL, 0);
  if (is_meant) pthread_mutex_unlock(&tracing);
  return result;
}

int ftruncate(int fd, off_t length) { return truncate_with(fd, length); }
int ftruncate64(int fd, off_t length) { return truncate_with(fd, length); }

int unlink(const char *path) {
  const char *name = getenv("FAULT_NAME");
  int is_meant = name && strstr(path, name) && !strstr(path, "-shm") && !strstr(path, "-reserve");
  if (is_meant) pthread_mutex_lock(&tracing);
  int result = NEXT(unlink)(path);
  if (is_meant && !result) trace('u', path, 0, NULL, 0);
  if (is_meant) pthread_mutex_unlock(&tracing);
  return result;
}
