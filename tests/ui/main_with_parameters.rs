#[raddle::main]
fn main(count: u32, names: Vec<String>) {}
