#[raddle::main(procs = 2)]
fn main() {}
