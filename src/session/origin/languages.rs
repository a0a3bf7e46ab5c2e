//! The official languages of countries.

/// Codes of ISO 3166, each with that of ISO 639 of its official language, in the order of the countries. Of several languages it is the one that most
/// people there speak.
const LANGUAGES: &[u8] = b"\
    AD ca AE ar AF fa AG en AI en AL sq AM hy AO pt AR es AS en AT de AU en AW nl AX sv AZ az BA bs BB en BD bn BE nl BF fr \
    BG bg BH ar BI rn BJ fr BL fr BM en BN ms BO es BQ nl BR pt BS en BT dz BW en BY ru BZ en CA en CC en CD fr CF fr CG fr \
    CH de CI fr CK en CL es CM fr CN zh CO es CR es CU es CV pt CW nl CX en CY el CZ cs DE de DJ fr DK da DM en DO es DZ ar \
    EC es EE et EG ar EH ar ER ti ES es ET am FI fi FJ en FK en FM en FO fo FR fr GA fr GB en GD en GE ka GF fr GG en GH en \
    GI en GL kl GM en GN fr GP fr GQ es GR el GT es GU en GW pt GY en HK zh HN es HR hr HT ht HU hu ID id IE en IL he IM en \
    IN hi IO en IQ ar IR fa IS is IT it JE en JM en JO ar JP ja KE sw KG ky KH km KI en KM ar KN en KP ko KR ko KW ar KY en \
    KZ kk LA lo LB ar LC en LI de LK si LR en LS st LT lt LU lb LV lv LY ar MA ar MC fr MD ro ME sr MF fr MG mg MH en MK mk \
    ML fr MM my MN mn MO zh MP en MQ fr MR ar MS en MT mt MU en MV dv MW en MX es MY ms MZ pt NA en NC fr NE fr NF en NG en \
    NI es NL nl NO no NP ne NR en NU en NZ en OM ar PA es PE es PF fr PG en PH tl PK ur PL pl PM fr PN en PR es PS ar PT pt \
    PW en PY es QA ar RE fr RO ro RS sr RU ru RW rw SA ar SB en SC fr SD ar SE sv SG en SH en SI sl SJ no SK sk SL en SM it \
    SN fr SO so SR nl SS en ST pt SV es SX nl SY ar SZ en TC en TD fr TG fr TH th TJ tg TK en TL pt TM tk TN ar TO to TR tr \
    TT en TV en TW zh TZ sw UA uk UG en UM en US en UY es UZ uz VA it VC en VE es VG en VI en VN vi VU bi WF fr WS sm XK sq \
    YE ar YT fr ZA en ZM en ZW en ";

/// The bytes of one country's entry.
const ENTRY: usize = "DE de ".len();

pub fn language_of(country: [u8; 2]) -> Option<&'static str> {
    let (entries, _) = LANGUAGES.as_chunks::<ENTRY>();
    let at = entries.binary_search_by_key(&country, |entry| [entry[0], entry[1]]).ok()?;
    std::str::from_utf8(&entries[at][3..5]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_whole() {
        let (entries, rest) = LANGUAGES.as_chunks::<ENTRY>();
        assert!(rest.is_empty() && entries.iter().all(|entry| entry[2] == b' ' && entry[5] == b' '));
        assert!(entries.windows(2).all(|pair| pair[0][..2] < pair[1][..2]));
        assert!(
            entries
                .iter()
                .all(|entry| language_of([entry[0], entry[1]]).is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_lowercase())))
        );
        assert_eq!([*b"CH", *b"BR", *b"AQ"].map(language_of), [Some("de"), Some("pt"), None]);
    }
}
