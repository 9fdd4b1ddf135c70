// SPDX-License-Identifier: MIT
// Looks at the first output by the library, as bindgen has its header: usage: looker_rs
#![allow(non_camel_case_types, non_upper_case_globals, non_snake_case, dead_code)]
include!(concat!(env!("BINDINGS_DIR"), "/bindings.rs"));

fn main() {
    unsafe {
        let mut client = std::ptr::null_mut();
        assert_eq!(vitrine_client_connect(std::ptr::null(), &mut client, std::ptr::null_mut()), 0);
        let output = vitrine_client_find_output(client, std::ptr::null());
        let mut session = std::ptr::null_mut();
        let source = vitrine_output_get_source(output);
        assert_eq!(vitrine_session_create(source, std::ptr::null(), &mut session), 0);
        let mut frame = std::ptr::null_mut();
        assert_eq!(vitrine_session_next_frame(session, 10000, &mut frame), 1);
        let info = &*vitrine_frame_get_info(frame);
        println!("{}x{} {}", info.width, info.height, info.strides[0]);
        vitrine_frame_release(frame);
        vitrine_client_destroy(client);
    }
}
