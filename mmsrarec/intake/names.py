"""What people call our columns, in a few languages, and how near a column's name comes to that."""

import re
import unicodedata

ID_WORDS = (
    "id",
    "ids",
    "nr",
    "no",
    "num",
    "nummer",
    "number",
    "numero",
    "nro",
    "code",
    "codigo",
    "key",
    "uuid",
    "guid",
)
_ID_ENDING = re.compile(r"(?<=..)(nummer|number|numero|nr|id|code|key)$")
ITEM = (
    "item", "product", "produkt", "produto", "producto", "produit", "prodotto", "article", "artikel", "articulo",
    "articolo", "artigo", "sku", "asin", "isbn", "ean", "gtin", "movie", "film", "pelicula", "book", "buch", "libro",
    "livre", "song", "track", "video", "game", "recipe", "news", "business", "listing", "offer", "ware", "material",
)  # fmt: skip
# The first is the likeliest where a file has several.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "item_id": ITEM,
    "user_id": (
        "user", "customer", "client", "kunde", "kunden", "kundin", "nutzer", "benutzer", "usuario", "cliente",
        "utilisateur", "utente", "klant", "gebruiker", "comprador", "acheteur", "kaufer", "member", "mitglied",
        "account", "konto", "buyer", "shopper", "visitor", "viewer", "reader", "reviewer", "person",
        "subscriber", "uid",
    ),
    "timestamp": (
        "timestamp", "time", "datetime", "date", "zeitstempel", "zeitpunkt", "zeit", "datum", "fechahora", "fecha",
        "horodatage", "data", "dataora", "tijdstip", "ts", "when", "unixtime", "epoch", "created", "createdat",
        "event", "occurred", "purchased", "ordered", "gekauft", "bestellt", "viewed", "clicked",
    ),
    "image": (
        "image", "picture", "photo", "poster", "cover", "img", "pic", "thumbnail", "bild", "foto", "imagen",
        "immagine", "imagem", "afbeelding",
    ),
    "available": (
        "available", "availability", "instock", "verfugbar", "lieferbar", "disponible", "disponibile", "disponivel",
        "beschikbaar", "vorratig", "active", "aktiv", "activo", "enabled", "stock", "bestand", "lagerbestand",
        "existencias", "inventory", "quantity",
    ),
    "category": (
        "category", "kategorie", "categoria", "categorie", "genre", "genres", "categories", "kategorien", "department",
        "abteilung", "warengruppe", "produktgruppe", "artikelgruppe", "section", "rubrik", "familia", "type", "typ",
        "tipo",
    ),
    "description": (
        "description", "beschreibung", "descripcion", "descrizione", "descricao", "omschrijving", "overview", "summary",
        "synopsis", "plot", "abstract", "details", "detail", "text", "body", "content", "about", "resumen",
        "zusammenfassung",
    ),
    "title": (
        "title", "titel", "titulo", "titre", "titolo", "name", "bezeichnung", "nombre", "nom", "nome", "naam",
        "denominacion", "designation", "label", "headline", "caption",
    ),
    "text": (
        "brand", "marke", "marca", "marque", "merk", "manufacturer", "hersteller", "tags", "tag", "keywords",
        "schlagworte", "schlagworter", "palabras", "color", "colour", "farbe", "couleur", "colore", "kleur", "author",
        "autor", "auteur", "autore", "artist", "kunstler", "director", "regie", "subtitle", "untertitel", "ingredients",
        "zutaten", "style", "stil", "features", "merkmale", "genre", "genres", "fabric", "stoff",
    ),
}  # fmt: skip
WHOLE, PART, WORD = 1.0, 0.8, 0.6


def score(role: str, name: str) -> float:
    """1 where the name says the role and nothing else, 0.8 as part of a compound, 0.6 as one word of several."""
    if name == role:
        return WHOLE
    words, known = split(name), SYNONYMS[role]
    core = [word for word in words if word not in ID_WORDS]
    if role not in ("item_id", "user_id"):
        core = [word for word in core if word not in ITEM] or core
    elif not core:
        return WORD if role == "item_id" else 0.0  # `id` alone is that of the file's own rows
    elif len(core) == 1:
        core = [_ID_ENDING.sub("", core[0])]
    joined = "".join(core)
    if joined in known or joined.removesuffix("s") in known:
        return WHOLE
    if len(core) == 1 and any(len(word) > 3 and (joined.startswith(word) or joined.endswith(word)) for word in known):
        return PART
    return WORD if any(word in known for word in core) else 0.0


def place(role: str, name: str) -> int:
    """Which of the role's synonyms is in the name; the lower the likelier."""
    joined = "".join(split(name))
    known = SYNONYMS[role]
    return next((number for number, word in enumerate(known) if word in joined), len(known))


def split(name: str) -> list[str]:
    """Words in lower case without accents: kundenNr, KUNDEN_NR and "Kunden-Nr." are the same."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", plain).lower().replace("ß", "ss")
    return re.findall(r"[^\W_]+", apart)
