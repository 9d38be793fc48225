//! Function words, which have no meaning of their own in a search. A language without a list keeps all its words; common
//! ones then get a low weight by their frequency.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::Language;

type Words = LazyLock<HashSet<&'static str>>;

/// Returns whether a word in lower case is a function word of the language.
pub(super) fn is_stop_word(language: Language, word: &str) -> bool {
    find_list(language).is_some_and(|words| words.contains(word))
}

/// Returns the function words of a language.
pub(super) fn list_stop_words(language: Language) -> impl Iterator<Item = &'static str> {
    find_list(language)
        .into_iter()
        .flat_map(|words| words.iter().copied())
}

fn find_list(language: Language) -> Option<&'static Words> {
    Some(match language {
        Language::Dutch => &DUTCH,
        Language::English => &ENGLISH,
        Language::French => &FRENCH,
        Language::German => &GERMAN,
        Language::Italian => &ITALIAN,
        Language::Portuguese => &PORTUGUESE,
        Language::Spanish => &SPANISH,
        _ => return None,
    })
}

static DUTCH: Words = LazyLock::new(|| {
    split_list(
        "aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus \
     een eens en er ge geen geweest had hadden heb hebben heeft hem het hier hij hoe hoeveel hun \
     iemand iets ik in is ja je jij jou jouw jullie kan kon kunnen maar me meer men met mij mijn \
     moet moeten na naar niet niets nog nu of om omdat onder ons onze ook op over reeds te tegen \
     toch toen tot u uit uw van veel voor waar waarom wanneer want waren was wat we welk welke \
     werd werden wezen wie wij wil worden wordt zal ze zei zelf zich zij zijn zo zonder zou \
     zullen",
    )
});

static ENGLISH: Words = LazyLock::new(|| {
    split_list(
        "a about above after again against all am an and any are aren't as at be because been before \
     being below between both but by can can't cannot could couldn't did didn't do does doesn't \
     doing don't down during each few for from further had hadn't has hasn't have haven't having \
     he he'd he'll he's her here here's hers herself him himself his how how's i i'd i'll i'm \
     i've if in into is isn't it it's its itself let's me more most my myself nor not of off on \
     once only or other our ours ourselves out over own same she she'd she'll she's should \
     shouldn't so some such than that that's the their theirs them themselves then there there's \
     these they they'd they'll they're they've this those through to too under until up very was \
     wasn't we we'd we'll we're we've were weren't what what's when when's where where's which \
     while who who's whom why why's will with won't would wouldn't you you'd you'll you're you've \
     your yours yourself yourselves",
    )
});

static FRENCH: Words = LazyLock::new(|| {
    split_list(
        "a ai aie aient aies ait alors as au aucun aucune aura auraient aurait auras aurez aurons \
     aussi autre autres aux avaient avais avait avant avec avez aviez avions avoir avons ayant c \
     ce ceci cela celle celles celui ces cet cette ceux chez combien comme comment d dans de des \
     donc dont du elle elles en encore entre es est et eu eue eut eux fait il ils j je jusqu l la \
     laquelle le lequel les lesquelles lesquels leur leurs lorsque lui m ma mais me mes moi mon \
     même n ne ni nos notre nous on ont ou où par parce pas pendant peut plus pour pourquoi puis \
     qu quand que quel quelle quelles quels qui quoi s sa sans se sera serait seront ses si sien \
     soient sois soit sommes son sont sous suis sur t ta te tes toi ton tous tout toute toutes \
     très tu un une va vers vos votre vous y à ça étaient étais était étant été êtes être",
    )
});

static GERMAN: Words = LazyLock::new(|| {
    split_list(
        "aber alle allem allen aller alles als also am an ander andere anderem anderen anderer \
     anderes auch auf aus bei bin bis bist da damit dann das dass dasselbe dazu dein deine deinem \
     deinen deiner dem den denen denn der deren derselbe des dessen dich die dies diese diesem \
     diesen dieser dieses dir doch dort du durch ein eine einem einen einer eines einig einige \
     einigem einigen einiger einiges einmal er es etwas euch euer eure eurem euren eurer für \
     gegen gewesen hab habe haben hast hat hatte hatten hattest hattet hier hin hinter ich ihm \
     ihn ihnen ihr ihre ihrem ihren ihrer im in indem ins ist ja jede jedem jeden jeder jedes \
     jene jenem jenen jener jenes jetzt kann kein keine keinem keinen keiner können könnte machen \
     man manche manchem manchen mancher manches mein meine meinem meinen meiner mich mir mit muss \
     musste nach nicht nichts noch nun nur ob oder ohne schon sehr seid sein seine seinem seinen \
     seiner seit selbst sich sie sind so solche solchem solchen solcher solches soll sollte \
     sondern sonst um und uns unser unsere unserem unseren unserer unter viel vom von vor wann \
     war waren warst warum was weg weil weiter welche welchem welchen welcher welches wem wen \
     wenn wer werde werden werdet wessen wie wieder will wir wird wirst wo woher wohin wollen \
     wollte worden wurde wurden würde würden zu zum zur zwar zwischen über",
    )
});

static ITALIAN: Words = LazyLock::new(|| {
    split_list(
        "a abbia abbiamo abbiano ad agli ai al alla alle allo anche avere aveva avevano avuto c che \
     chi ci cioè coi col come con contro cosa cui d da dagli dai dal dall dalla dalle dallo degli \
     dei del dell della delle dello di dopo dove e ed era erano essere faceva fare fu fui furono \
     gli ha hai hanno ho i il in io l la le lei li lo loro lui ma mi mia mie miei mio molto ne \
     negli nei nel nell nella nelle nello noi non nostra nostre nostri nostro o per perché più \
     poi prima qual quale quali quando quanta quante quanti quanto quella quelle quelli quello \
     questa queste questi questo qui saranno sarà se sei senza si sia siamo siano siete sono sta \
     stata state stati stato su sua sue sugli sui sul sull sulla sulle sullo suo suoi tra tu tua \
     tue tuo tuoi tutti tutto un una uno vi voi vostra vostre vostri vostro è",
    )
});

static PORTUGUESE: Words = LazyLock::new(|| {
    split_list(
        "a ao aos aquela aquelas aquele aqueles aquilo as até com como da das de dela delas dele \
     deles depois do dos e ela elas ele eles em entre era eram essa essas esse esses esta estamos \
     estar estas estava estavam este estes estou está estão eu foi fomos foram fui haja havia \
     houve há isso isto já lhe lhes lá mais mas me mesmo meu meus minha minhas muito na nas nem \
     no nos nossa nossas nosso nossos num numa não nós o onde os ou para pela pelas pelo pelos \
     por porque porquê quais qual quando quanta quantas quanto quantos que quem quê se seja sejam \
     sem ser será seu seus sido sobre somos sou sua suas são só também te tem temos tenha tenho \
     ter teu teus teve tinha tinham tivemos tu tua tuas têm um uma uns você vocês vos à às é \
     éramos",
    )
});

static SPANISH: Words = LazyLock::new(|| {
    split_list(
        "a al algo algunas algunos ante antes aquel aquella aquello aquí como con contra cual cuando \
     cuál cuáles cuándo cuánta cuántas cuánto cuántos cómo de del desde donde durante dónde e el \
     ella ellas ellos en entre era eran eras eres es esa esas ese eso esos esta estaba estaban \
     estado estamos estar estas este esto estos estoy está están fue fueron fui fuimos ha haber \
     había habían han has hasta hay he hemos la las le les lo los me mi mis mucho muchos muy más \
     mí mía nada ni no nos nosotras nosotros nuestra nuestras nuestro nuestros o os otra otras \
     otro otros para pero poco por porque pues que quien quienes quién quiénes qué se sea sean \
     ser será si sido siempre sin sobre sois somos son soy su sus suya suyo sí también tanto te \
     tenemos tener tengo ti tiene tienen todo todos tu tus tuvo tú un una unas uno unos y ya yo \
     él",
    )
});

fn split_list(words: &'static str) -> HashSet<&'static str> {
    words.split(' ').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_words_belong_to_their_language() {
        for (language, word, common) in [
            (Language::English, "the", true),
            (Language::English, "who's", true),
            (Language::English, "walrus", false),
            (Language::German, "über", true),
            (Language::German, "the", false),
            (Language::French, "où", true),
            (Language::Spanish, "qué", true),
            (Language::Italian, "è", true),
            (Language::Portuguese, "não", true),
            (Language::Dutch, "het", true),
            (Language::Finnish, "ja", false),
            (Language::None, "the", false),
        ] {
            assert_eq!(is_stop_word(language, word), common, "{language:?} {word}");
        }
        let lists = [
            &DUTCH,
            &ENGLISH,
            &FRENCH,
            &GERMAN,
            &ITALIAN,
            &PORTUGUESE,
            &SPANISH,
        ];
        assert!(lists.iter().all(|list| !list.contains("")));
    }
}
