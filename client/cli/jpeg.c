/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// Not before <stdio.h>
#include <jpeglib.h>

#include "file.h"
#include "image.h"

/** What it compresses is written in pieces of this size. */
#define BUFFER_SIZE 65536

struct encoder {
	struct jpeg_compress_struct jpeg;
	struct jpeg_error_mgr errors;
	struct jpeg_destination_mgr destination;
	jmp_buf jump;
	struct out_file *file;
	uint8_t *buffer;
};

static void handle_error(j_common_ptr jpeg) {
	struct encoder *encoder = jpeg->client_data;
	longjmp(encoder->jump, 1);
}

static void handle_message(j_common_ptr jpeg) {
	// Nothing a user could do about it
}

static void init_destination(j_compress_ptr jpeg) {
	struct encoder *encoder = jpeg->client_data;
	jpeg->dest->next_output_byte = encoder->buffer;
	jpeg->dest->free_in_buffer = BUFFER_SIZE;
}

static void write_buffer(j_compress_ptr jpeg, size_t len) {
	struct encoder *encoder = jpeg->client_data;
	if (out_file_write(encoder->file, encoder->buffer, len) < 0) {
		longjmp(encoder->jump, 1);
	}
}

static boolean empty_buffer(j_compress_ptr jpeg) {
	write_buffer(jpeg, BUFFER_SIZE); // all of it, whatever free_in_buffer says
	init_destination(jpeg);
	return TRUE;
}

static void end_destination(j_compress_ptr jpeg) {
	write_buffer(jpeg, BUFFER_SIZE - jpeg->dest->free_in_buffer);
}

/** The pixels are in the order of this machine's words. */
static void set_format(struct jpeg_compress_struct *jpeg) {
	jpeg->input_components = 4;
	jpeg->in_color_space = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? JCS_EXT_BGRX : JCS_EXT_XRGB;
}

/** All of what may longjmp; false if it did. No local variable changes after setjmp. */
static bool encode(struct encoder *encoder, const struct image *image, int quality) {
	struct jpeg_compress_struct *jpeg = &encoder->jpeg;
	if (setjmp(encoder->jump) != 0) {
		return false;
	}
	jpeg_create_compress(jpeg);
	jpeg->dest = &encoder->destination;
	jpeg->image_width = image->width;
	jpeg->image_height = image->height;
	set_format(jpeg);
	jpeg_set_defaults(jpeg);
	jpeg_set_quality(jpeg, quality, TRUE);
	jpeg_start_compress(jpeg, TRUE);
	while (jpeg->next_scanline < jpeg->image_height) {
		JSAMPROW row =
			(JSAMPROW)(image->pixels + (size_t)jpeg->next_scanline * image->width);
		jpeg_write_scanlines(jpeg, &row, 1);
	}
	jpeg_finish_compress(jpeg);
	return true;
}

int image_write_jpeg(const struct image *image, struct out_file *file, int quality) {
	if (image->width > JPEG_MAX_DIMENSION || image->height > JPEG_MAX_DIMENSION) {
		return -EFBIG;
	}
	struct encoder *encoder = calloc(1, sizeof(*encoder));
	uint8_t *buffer = malloc(BUFFER_SIZE);
	int ret = -ENOMEM;
	if (encoder != NULL && buffer != NULL) {
		encoder->file = file;
		encoder->buffer = buffer;
		encoder->destination = (struct jpeg_destination_mgr){
			.init_destination = init_destination,
			.empty_output_buffer = empty_buffer,
			.term_destination = end_destination,
		};
		encoder->jpeg.err = jpeg_std_error(&encoder->errors);
		encoder->jpeg.client_data = encoder;
		encoder->errors.error_exit = handle_error;
		encoder->errors.output_message = handle_message;
		ret = encode(encoder, image, quality) ? 0 : file->error < 0 ? file->error : -ENOMEM;
		jpeg_destroy_compress(&encoder->jpeg);
	}
	free(buffer);
	free(encoder);
	return ret;
}
