#[raddle::main]
struct Main;

fn main() {}
