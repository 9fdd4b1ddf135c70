/* SPDX-License-Identifier: MIT */
#ifndef NOFILE_H
#define NOFILE_H

/**
 * Lets this process have as many file descriptors as it may. Children that are forked
 * have the limit before again: programs that use select() must have no more than 1024. To
 * be called once, after what else may do the same: what is saved is what was there.
 */
void nofile_raise(void);

#endif
