//! The functions of the language: `geoDistance` and `strftime`.

use super::FilterError;
use super::parser::Operand;
use super::resolver::{EACH, Nature, Nulls, Resolved};
use super::sql::{Sql, quote};

/// Arguments that `strftime` takes at most.
const STRFTIME_ARGUMENTS: usize = 10;

/// The operand of a function call. `resolve` gives the operands of its arguments.
pub(super) fn call(
    name: &str,
    arguments: &[Operand],
    resolve: &mut dyn FnMut(&Operand) -> Result<Resolved, FilterError>,
) -> Result<Resolved, FilterError> {
    match name {
        "geoDistance" => geo_distance(arguments, resolve),
        "strftime" => strftime(arguments, resolve),
        _ => Err(FilterError::malformed(format!("the function {name:?}"))),
    }
}

/// Kilometres between two points, longitude before latitude, by the spherical law of cosines.
///
/// It takes one of several records that a path meets, not all of them.
fn geo_distance(
    arguments: &[Operand],
    resolve: &mut dyn FnMut(&Operand) -> Result<Resolved, FilterError>,
) -> Result<Resolved, FilterError> {
    let numeric = |it: &Operand| matches!(it, Operand::Identifier(_) | Operand::Number(_));
    if arguments.len() != 4 || !arguments.iter().all(numeric) {
        return Err(FilterError::malformed("geoDistance takes four numbers or fields"));
    }
    let resolved = arguments.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
    let [lon_a, lat_a, lon_b, lat_b] = [0, 1, 2, 3].map(|index| &resolved[index].sql);
    let sql = Sql::of(
        "(6371 * acos(cos(radians({})) * cos(radians({})) * cos(radians({}) - radians({})) \
         + sin(radians({})) * sin(radians({}))))",
        &[lat_a, lat_b, lon_b, lon_a, lat_a, lat_b],
    );
    Ok(Resolved { nulls: Nulls::Disabled, guard: guards(&resolved), ..Resolved::new(sql) })
}

/// SQLite's own, with a format, a time and modifiers.
fn strftime(
    arguments: &[Operand],
    resolve: &mut dyn FnMut(&Operand) -> Result<Resolved, FilterError>,
) -> Result<Resolved, FilterError> {
    let text = |it: &Operand| matches!(it, Operand::Text(_));
    let well_formed = match arguments {
        [format] => text(format),
        [format, time, modifiers @ ..] => {
            text(format) && !matches!(time, Operand::Function { .. }) && modifiers.iter().all(text)
        }
        [] => false,
    };
    if !well_formed || arguments.len() > STRFTIME_ARGUMENTS {
        return Err(FilterError::malformed("strftime takes a format, a time and modifiers"));
    }
    let resolved = arguments.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
    let with_time = |time: Option<&Sql>| {
        let mut parts: Vec<Sql> = resolved.iter().map(|it| it.sql.clone()).collect();
        if let (Some(time), Some(slot)) = (time, parts.get_mut(1)) {
            *slot = time.clone();
        }
        Sql::of("strftime({})", &[&Sql::join(&parts, ",")])
    };
    // The values that a path meets go through the function one by one.
    let each = resolved.get(1).and_then(|time| time.each.as_ref()).map(|all| {
        let value = with_time(Some(&Sql::column("__t", EACH)));
        Sql::of("SELECT {} AS {} FROM ({}) AS \"__t\"", &[&value, &Sql::text(quote(EACH)), all])
    });
    Ok(Resolved {
        sql: with_time(None),
        nature: Nature::Open,
        nulls: Nulls::Enforced,
        each,
        guard: guards(&resolved),
    })
}

/// What must hold for any of them.
fn guards(arguments: &[Resolved]) -> Option<Sql> {
    let guards: Vec<Sql> = arguments.iter().filter_map(|it| it.guard.clone()).collect();
    (!guards.is_empty()).then(|| Sql::join(&guards, " AND "))
}
