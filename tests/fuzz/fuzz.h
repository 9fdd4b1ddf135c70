/* SPDX-License-Identifier: MIT */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/** What libFuzzer calls. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
/** Changes an input in place; returns its new length. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed);
/** libFuzzer's own way to do so. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t cap);

/** The input is a failure unless the condition holds. */
#define fuzz_must(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

#endif
