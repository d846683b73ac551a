# Pieces that nobody has: the downloader says so, keeps the rest, and ends when they come.
. "$PSScriptRoot/lib.ps1"

title "5: pieces that nobody has, until a seeder with the rest joins"
sample 2short_story_100x.txt
launch tracker tracker --host 127.0.0.1 -d 0
ready tracker
launch seeder1 seed -i 127.0.0.1 -d $TRACKER -p $P1 -f 2short_story_100x.txt '-r2' "40%"
launch seeder2 seed -i 127.0.0.1 -d $TRACKER -p $P2 -f 2short_story_100x.txt '-r1' "60%"
ready seeder1 seeder2
launch downloader download 2short_story_100x.txt -i 127.0.0.1 -d $TRACKER -p $P3
says downloader "Missing 25 of 125 pieces of 2short_story_100x.txt (50-74): none of the 2 peers asked has them"
launch seeder3 seed -i 127.0.0.1 -d $TRACKER -p $P4 -f 2short_story_100x.txt '-r1' "40%" '-r2' "60%"
finished downloader
gave downloader
same seeds/2short_story_100x.txt output/2short_story_100x.txt
passed
