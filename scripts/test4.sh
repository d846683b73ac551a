#!/usr/bin/env bash
# Several downloaders of one file at once; each also serves the others.
. "$(dirname "$0")/lib.sh"

title "4: four downloaders at once, each serving the others"
sample 2short_story_100x.txt
launch tracker tracker --host 127.0.0.1 -d 0
ready tracker
launch seeder1 seed -i 127.0.0.1 -d $TRACKER -p $P1 -f 2short_story_100x.txt --up-limit 1M
ready seeder1
launch downloader1 download 2short_story_100x.txt -i 127.0.0.1 -d $TRACKER -p $P2 -o output1 --keep-seeding
launch downloader2 download 2short_story_100x.txt -i 127.0.0.1 -d $TRACKER -p $P3 -o output2 --keep-seeding
launch downloader3 download 2short_story_100x.txt -i 127.0.0.1 -d $TRACKER -p $P4 -o output3 --keep-seeding
launch downloader4 download 2short_story_100x.txt -i 127.0.0.1 -d $TRACKER -p $P5 -o output4 --keep-seeding
says downloader1 "Successfully Downloaded 2short_story_100x.txt to output1/2short_story_100x.txt"
says downloader2 "Successfully Downloaded 2short_story_100x.txt to output2/2short_story_100x.txt"
says downloader3 "Successfully Downloaded 2short_story_100x.txt to output3/2short_story_100x.txt"
says downloader4 "Successfully Downloaded 2short_story_100x.txt to output4/2short_story_100x.txt"
stop downloader1 downloader2 downloader3 downloader4 seeder1
gave downloader1
gave downloader2
gave downloader3
gave downloader4
gave seeder1
same seeds/2short_story_100x.txt output1/2short_story_100x.txt
same seeds/2short_story_100x.txt output2/2short_story_100x.txt
same seeds/2short_story_100x.txt output3/2short_story_100x.txt
same seeds/2short_story_100x.txt output4/2short_story_100x.txt
sent_at_most seeder1 2.5
passed
