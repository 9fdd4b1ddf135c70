/* SPDX-License-Identifier: MIT */
/** Stands in for the libwlroots of another release. */
int wlr_other(void);

int wlr_other(void) {
	return 19;
}
