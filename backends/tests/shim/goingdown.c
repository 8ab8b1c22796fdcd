/*
 * goingdown DIR: the filesystem that DIR stands in goes down at once, as in a power cut: nothing that
 * was not on the disk gets there any more. ext4 and XFS have the same call for it. Needs root.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define GOING_DOWN _IOR('X', 125, uint32_t)
#define WITHOUT_FLUSHING_THE_LOG 2

int main(int count, char **words) {
    uint32_t how = WITHOUT_FLUSHING_THE_LOG;
    int fd = count == 2 ? open(words[1], O_RDONLY) : -1;
    if (fd < 0 || ioctl(fd, GOING_DOWN, &how) != 0) {
        perror("goingdown");
        return 1;
    }
    return 0;
}
