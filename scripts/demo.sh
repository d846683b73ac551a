#!/usr/bin/env bash
# A file arrives from five seeders, none of which has all of it: scenario 2, made visible.
. "$(dirname "$0")/lib.sh"

MIB=${MIB:-64}
RATE=${RATE:-2500k}

sha256() {
    python -c 'import hashlib, sys
print(hashlib.file_digest(open(sys.argv[1], "rb"), "sha256").hexdigest())' "$1"
}

echo "Making a file of $MIB MiB; a tracker and five seeders, each with a fifth of it and $RATE of uplink."
python "$ROOT/scripts/make_data.py" seeds --demo "$MIB" >/dev/null
run make-torrent seeds/demo.txt
launch tracker tracker --host 127.0.0.1 -d 0
ready tracker
launch seeder1 seed -i 127.0.0.1 -d $TRACKER -p $P1 -f demo.txt -r1 "0.0" -r2 "0.2" --up-limit $RATE
launch seeder2 seed -i 127.0.0.1 -d $TRACKER -p $P2 -f demo.txt -r1 "0.2" -r2 "0.4" --up-limit $RATE
launch seeder3 seed -i 127.0.0.1 -d $TRACKER -p $P3 -f demo.txt -r1 "0.4" -r2 "0.6" --up-limit $RATE
launch seeder4 seed -i 127.0.0.1 -d $TRACKER -p $P4 -f demo.txt -r1 "0.6" -r2 "0.8" --up-limit $RATE
launch seeder5 seed -i 127.0.0.1 -d $TRACKER -p $P5 -f demo.txt -r1 "0.8" -r2 "1.0" --up-limit $RATE
ready seeder1 seeder2 seeder3 seeder4 seeder5
sed -n 's/^p2pfs seed ready on \([^ ]*\).*, /  \1 /p' seeder?.log
echo
echo '$ p2pfs download demo.txt   (try: prog, peers, help, exit)'
run download demo.txt -i 127.0.0.1 -d $TRACKER -p $P6

echo
seeded=$(sha256 seeds/demo.txt)
arrived=$(sha256 output/demo.txt)
echo "SHA-256 of what was seeded: $seeded"
echo "SHA-256 of what arrived:    $arrived"
[ "$seeded" = "$arrived" ] || fail "the two differ"
echo "The same file, from five seeders that each served a fifth of it."
