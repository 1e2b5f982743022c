//! Generates the messages with a protobuf compiler in Rust, so that a build needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/postern.proto"];
    println!("cargo:rerun-if-changed=proto/postern.proto");
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .build_client(cfg!(feature = "grpc"))
        .build_server(cfg!(feature = "grpc"))
        // Maps and sets are never used in the messages: encoding is canonical, equal resources have equal bytes.
        .bytes(".")
        .skip_debug([
            "postern.v1.Certificate",
            "postern.v1.Secret",
            "postern.v1.KeyAuth",
            "postern.v1.Jwt",
            "postern.v1.Jwt.verification",
            "postern.v1.Application",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
