/* Preloaded into a child: fdatasync and fsync fail with EIO while the file $FSYNC_FAILS exists. */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int failing(void) {
    const char *path = getenv("FSYNC_FAILS");
    return path != NULL && access(path, F_OK) == 0;
}

int fdatasync(int fd) {
    if (failing()) { errno = EIO; return -1; }
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    if (failing()) { errno = EIO; return -1; }
    return (int)syscall(SYS_fsync, fd);
}
