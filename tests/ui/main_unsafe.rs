#[raddle::main]
unsafe extern "C" fn main() {}
