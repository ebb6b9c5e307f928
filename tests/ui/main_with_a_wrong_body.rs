#[raddle::main]
fn main() {
    5
}
