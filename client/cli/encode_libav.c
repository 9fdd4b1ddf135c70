/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <stdlib.h>

#include "encode.h"

/** Bytes that are written at a time. */
#define IO_SIZE (256 * 1024)

struct encoder {
	struct encoder_options options;
	AVFormatContext *format;
	AVCodecContext *codec;
	AVStream *stream;
	AVFrame *frame;
	AVPacket *packet;
	int error; // the first one of the file, a negative errno
};

static const char *const format_names[] = {
	[CONTAINER_MKV] = "matroska",
	[CONTAINER_MP4] = "mp4",
	[CONTAINER_WEBM] = "webm",
};

/** Encoders, the preferred ones first, with what makes them keep pace with a screen. */
static const struct {
	const char *name;
	const char *options;
} encoders[] = {
	{ "libx264", "preset=veryfast:crf=20" },
	{ "libvpx-vp9", "deadline=realtime:cpu-used=8:row-mt=1:tile-columns=2:crf=24:b=0" },
	{ "libsvtav1", "preset=11:crf=28" },
	{ "libopenh264", "b=8000000" },
};

/** Returns NULL if there is none. */
static const AVCodec *find_encoder(enum container container, const char **options) {
	const AVOutputFormat *format = av_guess_format(format_names[container], NULL, NULL);
	for (size_t i = 0; format != NULL && i < sizeof(encoders) / sizeof(encoders[0]); i++) {
		const AVCodec *codec = avcodec_find_encoder_by_name(encoders[i].name);
		if (codec != NULL &&
				avformat_query_codec(format, codec->id, FF_COMPLIANCE_NORMAL) == 1) {
			*options = encoders[i].options;
			return codec;
		}
	}
	return NULL;
}

static const char *encoder_check(enum container container) {
	const char *options;
	return find_encoder(container, &options) != NULL ? NULL :
		"libavcodec was built without an encoder for it";
}

/** The error of the file, if it was that; else a negative errno. */
static int encoder_get_errno(const struct encoder *encoder, int error) {
	if (encoder->error < 0) {
		return encoder->error;
	}
	// Those of its own have large numbers, and so no errno
	return error >= 0 ? 0 : error < -4095 ? -EIO : error;
}

static int write_bytes(void *data, const uint8_t *bytes, int len) {
	struct encoder *encoder = data;
	if (encoder->error == 0) {
		encoder->error = encoder->options.write(encoder->options.data, bytes, (size_t)len);
	}
	return encoder->error < 0 ? AVERROR(-encoder->error) : len;
}

static int64_t seek_bytes(void *data, int64_t offset, int whence) {
	const struct encoder *encoder = data;
	if (whence & AVSEEK_SIZE) {
		return AVERROR(ENOSYS);
	}
	int64_t pos = encoder->options.seek(encoder->options.data, offset, whence & ~AVSEEK_FORCE);
	return pos < 0 ? AVERROR((int)-pos) : pos;
}

static bool encoder_open_format(struct encoder *encoder) {
	if (avformat_alloc_output_context2(&encoder->format, NULL,
			format_names[encoder->options.container], NULL) < 0) {
		return false;
	}
	uint8_t *buffer = av_malloc(IO_SIZE);
	encoder->format->pb = avio_alloc_context(buffer, IO_SIZE, 1, encoder, NULL, write_bytes,
		encoder->options.seek != NULL ? seek_bytes : NULL);
	if (encoder->format->pb == NULL) {
		av_free(buffer);
		return false;
	}
	encoder->stream = avformat_new_stream(encoder->format, NULL);
	return encoder->stream != NULL;
}

/** What players need to know to show the colours as they were. */
static void describe_picture(AVCodecContext *codec, const struct yuv_layout *layout) {
	codec->width = (int)layout->luma_width;
	codec->height = (int)layout->luma_height;
	codec->pix_fmt = AV_PIX_FMT_YUV420P;
	codec->color_range = AVCOL_RANGE_MPEG;
	codec->colorspace = layout->is_bt709 ? AVCOL_SPC_BT709 : AVCOL_SPC_SMPTE170M;
	codec->color_primaries = AVCOL_PRI_BT709;
	codec->color_trc = AVCOL_TRC_BT709;
	codec->chroma_sample_location = AVCHROMA_LOC_CENTER;
}

static int encoder_open_codec(struct encoder *encoder) {
	const char *text = NULL;
	const AVCodec *encoding = find_encoder(encoder->options.container, &text);
	encoder->codec = avcodec_alloc_context3(encoding);
	if (encoding == NULL || encoder->codec == NULL) {
		return -ENOMEM;
	}
	describe_picture(encoder->codec, &encoder->options.layout);
	av_reduce(&encoder->codec->time_base.num, &encoder->codec->time_base.den, 1000,
		encoder->options.rate_mhz, INT32_MAX);
	encoder->codec->framerate = av_inv_q(encoder->codec->time_base);
	encoder->codec->thread_count = 0; // as many as there are processors
	if (encoder->format->oformat->flags & AVFMT_GLOBALHEADER) {
		encoder->codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
	}
	AVDictionary *options = NULL;
	int ret = av_dict_parse_string(&options, text, "=", ":", 0);
	if (ret >= 0) {
		ret = avcodec_open2(encoder->codec, encoding, &options);
	}
	av_dict_free(&options);
	return ret;
}

static int encoder_write_header(struct encoder *encoder) {
	AVDictionary *options = NULL;
	int ret = avcodec_parameters_from_context(encoder->stream->codecpar, encoder->codec);
	encoder->stream->time_base = encoder->codec->time_base;
	if (ret >= 0 && encoder->options.container == CONTAINER_MP4 &&
			encoder->options.seek == NULL) {
		// In pieces, each with its own index, as nothing can be added at the front later
		ret = av_dict_set(&options, "movflags", "frag_keyframe+empty_moov+default_base_moof", 0);
	}
	if (ret >= 0) {
		ret = avformat_write_header(encoder->format, &options);
	}
	av_dict_free(&options);
	return ret;
}

static int encoder_open(struct encoder *encoder) {
	if (!encoder_open_format(encoder)) {
		return -ENOMEM;
	}
	int ret = encoder_open_codec(encoder);
	if (ret >= 0) {
		ret = encoder_write_header(encoder);
	}
	return ret;
}

static void encoder_destroy(struct encoder *encoder) {
	if (encoder == NULL) {
		return;
	}
	av_packet_free(&encoder->packet);
	av_frame_free(&encoder->frame);
	avcodec_free_context(&encoder->codec);
	if (encoder->format != NULL && encoder->format->pb != NULL) {
		av_freep(&encoder->format->pb->buffer);
		avio_context_free(&encoder->format->pb);
	}
	avformat_free_context(encoder->format);
	free(encoder);
}

static struct encoder *encoder_create(const struct encoder_options *options) {
	struct encoder *encoder = calloc(1, sizeof(*encoder));
	if (encoder == NULL) {
		return NULL;
	}
	av_log_set_level(AV_LOG_QUIET);
	encoder->options = *options;
	encoder->frame = av_frame_alloc();
	encoder->packet = av_packet_alloc();
	if (encoder->frame == NULL || encoder->packet == NULL) {
		encoder_destroy(encoder);
		return NULL;
	}
	return encoder;
}

/** Writes what the codec has ready. */
static int encoder_drain(struct encoder *encoder) {
	int ret;
	while ((ret = avcodec_receive_packet(encoder->codec, encoder->packet)) >= 0) {
		if (encoder->packet->duration == 0) {
			encoder->packet->duration = 1;
		}
		av_packet_rescale_ts(encoder->packet, encoder->codec->time_base,
			encoder->stream->time_base);
		encoder->packet->stream_index = encoder->stream->index;
		ret = av_interleaved_write_frame(encoder->format, encoder->packet);
		if (ret < 0) {
			return ret;
		}
	}
	return ret == AVERROR(EAGAIN) || ret == AVERROR_EOF ? 0 : ret;
}

/** Points the frame at a picture, which libavcodec copies, as it does not own it. */
static void encoder_fill_frame(struct encoder *encoder, const uint8_t *yuv, uint64_t slot) {
	const struct yuv_layout *layout = &encoder->options.layout;
	const AVCodecContext *codec = encoder->codec;
	AVFrame *frame = encoder->frame;
	int chroma_width = (int)yuv_get_chroma_width(layout);
	frame->width = codec->width;
	frame->height = codec->height;
	frame->format = codec->pix_fmt;
	frame->color_range = codec->color_range;
	frame->colorspace = codec->colorspace;
	frame->color_primaries = codec->color_primaries;
	frame->color_trc = codec->color_trc;
	frame->chroma_location = codec->chroma_sample_location;
	frame->pts = (int64_t)slot;
	frame->duration = 1;
	frame->data[0] = (uint8_t *)yuv;
	frame->data[1] = frame->data[0] + (size_t)layout->luma_width * layout->luma_height;
	frame->data[2] = frame->data[1] + (size_t)chroma_width * yuv_get_chroma_height(layout);
	frame->linesize[0] = (int)layout->luma_width;
	frame->linesize[1] = frame->linesize[2] = chroma_width;
}

static int encoder_write(struct encoder *encoder, const uint8_t *yuv, uint64_t slot) {
	int ret = encoder->codec == NULL ? encoder_open(encoder) : 0;
	if (ret >= 0) {
		encoder_fill_frame(encoder, yuv, slot);
		ret = avcodec_send_frame(encoder->codec, encoder->frame);
	}
	if (ret >= 0) {
		ret = encoder_drain(encoder);
	}
	return encoder_get_errno(encoder, ret);
}

static int encoder_finish(struct encoder *encoder) {
	if (encoder->codec == NULL) {
		return 0;
	}
	int ret = avcodec_send_frame(encoder->codec, NULL);
	if (ret >= 0) {
		ret = encoder_drain(encoder);
	}
	if (ret >= 0) {
		ret = av_write_trailer(encoder->format);
	}
	avio_flush(encoder->format->pb);
	return encoder_get_errno(encoder, ret);
}

extern const struct encoder_interface vitrine_encoder;
__attribute__((visibility("default"))) const struct encoder_interface vitrine_encoder = {
	.check = encoder_check,
	.create = encoder_create,
	.destroy = encoder_destroy,
	.write = encoder_write,
	.finish = encoder_finish,
};
