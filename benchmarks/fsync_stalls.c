/* Preloaded into a node: fsync and fdatasync do not end while the file $FSYNC_STALLS exists. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void stall(void) {
    const char *path = getenv("FSYNC_STALLS");
    const struct timespec pause = {0, 10 * 1000 * 1000};
    while (path != NULL && access(path, F_OK) == 0) nanosleep(&pause, NULL);
}

int fdatasync(int fd) {
    stall();
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    stall();
    return (int)syscall(SYS_fsync, fd);
}
