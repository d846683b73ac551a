#!/usr/bin/env bash
# Three seeders, each with most pieces of a file, and one downloader.
. "$(dirname "$0")/lib.sh"

title "1: three seeders with most pieces each, one downloader"
sample 1short_story_10x.txt
launch tracker tracker --host 127.0.0.1 -d 0
ready tracker
launch seeder1 seed -i 127.0.0.1 -d $TRACKER -p $P1 -f 1short_story_10x.txt -m 0 4 8 12
launch seeder2 seed -i 127.0.0.1 -d $TRACKER -p $P2 -f 1short_story_10x.txt -m 1 5 9
launch seeder3 seed -i 127.0.0.1 -d $TRACKER -p $P3 -f 1short_story_10x.txt -m 2 6 10
ready seeder1 seeder2 seeder3
launch downloader download 1short_story_10x.txt -i 127.0.0.1 -d $TRACKER -p $P4
finished downloader
gave downloader
same seeds/1short_story_10x.txt output/1short_story_10x.txt
passed
