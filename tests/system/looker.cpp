/* SPDX-License-Identifier: MIT */
// Looks at a window by the library, which C++ can use as it is: usage: looker FRAMES APP-ID
//
// Prints a line for the window, for each new size, for the window's end, and for its own.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vitrine-client/client.h>

namespace {

struct destroy {
	void operator()(vitrine_client *client) const { vitrine_client_destroy(client); }
	void operator()(vitrine_frame *frame) const { vitrine_frame_release(frame); }
};

struct looker {
	std::unique_ptr<vitrine_client, destroy> client;
	const char *app_id;
	vitrine_session *session; // of the first window that has it, or null
	uint32_t width, height;
	uint64_t checksum;
	unsigned n_frames, n_different;
};

[[noreturn]] void fail(const char *what, const char *reason) {
	std::fprintf(stderr, "looker: %s: %s\n", what, reason);
	std::exit(EXIT_FAILURE);
}

void look(void *data, vitrine_toplevel *toplevel) {
	auto *self = static_cast<looker *>(data);
	if (self->session != nullptr ||
			std::strcmp(vitrine_toplevel_get_app_id(toplevel), self->app_id) != 0) {
		return;
	}
	std::printf("window %s\n", vitrine_toplevel_get_identifier(toplevel));
	if (vitrine_session_create(vitrine_toplevel_get_source(toplevel), nullptr,
			&self->session) < 0) {
		fail("no session", vitrine_client_get_error(self->client.get()));
	}
}

void notice(void *, vitrine_toplevel *toplevel) {
	std::printf("removed %s\n", vitrine_toplevel_get_identifier(toplevel));
}

uint64_t sum_up(const vitrine_frame_info *info, const void *pixels) {
	uint64_t sum = 0;
	for (uint32_t y = 0; y < info->height; y++) {
		const auto *row = static_cast<const uint8_t *>(pixels) +
			static_cast<size_t>(y) * info->strides[0];
		for (uint32_t x = 0; x < info->width * 4; x++) {
			sum = sum * 31 + (x % 4 != 3 ? row[x] : 0u);
		}
	}
	return sum;
}

void take(looker &self, const vitrine_frame *frame) {
	const vitrine_frame_info *info = vitrine_frame_get_info(frame);
	if (info->width != self.width || info->height != self.height) {
		self.width = info->width;
		self.height = info->height;
		std::printf("size %ux%u %s\n", info->width, info->height,
			vitrine_guarantee_name(info->guarantee));
	}
	const uint64_t sum = sum_up(info, vitrine_frame_get_pixels(frame, 0));
	self.n_different += sum != self.checksum;
	self.checksum = sum;
	self.n_frames++;
}

} // namespace

int main(int argc, char *argv[]) {
	if (argc != 3) {
		fail("usage", "looker FRAMES APP-ID");
	}
	std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
	looker self{};
	self.app_id = argv[2];
	const unsigned long n_wanted = std::strtoul(argv[1], nullptr, 10);
	vitrine_client *client = nullptr;
	if (vitrine_client_connect(nullptr, &client, nullptr) < 0) {
		fail("no connection", "no compositor with views");
	}
	self.client.reset(client);
	vitrine_client_listener listener{};
	listener.toplevel_added = look;
	listener.toplevel_changed = look; // an app-id may come later
	listener.toplevel_removed = notice;
	vitrine_client_set_listener(client, &listener, &self);
	if (vitrine_client_follow_toplevels(client, -1) < 0) {
		fail("no windows", vitrine_client_get_error(client));
	}
	while (self.session == nullptr) {
		if (vitrine_client_dispatch(client, -1) < 0) {
			fail("no window", vitrine_client_get_error(client));
		}
	}
	vitrine_frame *frame = nullptr;
	int ret = 1;
	while (self.n_frames < n_wanted &&
			(ret = vitrine_session_next_frame(self.session, -1, &frame)) == 1) {
		take(self, std::unique_ptr<vitrine_frame, destroy>(frame).get());
	}
	if (ret < 0) {
		std::printf("ended %s\n", vitrine_client_get_error(client));
	}
	std::printf("frames %u different %u\n", self.n_frames, self.n_different);
	return EXIT_SUCCESS;
}
