//! WIP
fn main() {
    let path = std::env::args().nth(1).unwrap();
    if path == "schema" { println!("{}", syncline::config::schema_text()); return; }
    match syncline::config::validate(path.as_ref()) {
        Ok(c) => println!("{c:#?}"),
        Err(p) => for q in &p.list { println!("{:?} {} | {} | {:?} | {:?}", p.sources.line_column(q.place.unwrap_or_default()), q.message, q.label, q.hint, q.code); }
    }
}
