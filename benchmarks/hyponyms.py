"""Pairs of hyponym and hypernym from WordNet: single words whose first senses are a synset and its direct hypernym."""

import random
import sys
from pathlib import Path


def main(wordnet, out):
    first = {}
    for line in (wordnet / "index.noun").read_text().splitlines():
        if line.startswith(" "):
            continue
        fields = line.split()
        pointers = int(fields[3])
        tagged = int(fields[5 + pointers])
        if tagged > 0:
            first[fields[0]] = fields[6 + pointers]
    pairs = []
    synsets = {}
    for line in (wordnet / "data.noun").read_text().splitlines():
        if line.startswith(" "):
            continue
        fields = line.split(" | ")[0].split()
        words = int(fields[3], 16)
        lemmas = fields[4 : 4 + 2 * words : 2]
        pointers = fields[5 + 2 * words :]
        above = [pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] == "@"]
        synsets[fields[0]] = (lemmas, above)
    plain = lambda word: word.isascii() and word.isalpha() and word.islower() and len(word) > 2
    for offset, (lemmas, above) in synsets.items():
        for word in lemmas:
            if not plain(word) or first.get(word) != offset:
                continue
            for higher in above:
                upper = [w for w in synsets[higher][0] if plain(w) and first.get(w) == higher]
                if upper and upper[0] != word:
                    pairs.append((word, upper[0]))
    pairs = sorted(set(pairs))
    random.Random(0).shuffle(pairs)
    out.write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    print(f"{len(pairs)} pairs")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
