# Five seeders with a fifth of a file each, and one downloader.
. "$PSScriptRoot/lib.ps1"

title "2: five seeders with a fifth each, one downloader"
sample 1short_story_10x.txt
launch tracker tracker --host 127.0.0.1 -d 0
ready tracker
launch seeder1 seed -i 127.0.0.1 -d $TRACKER -p $P1 -f 1short_story_10x.txt '-r1' "0.0" '-r2' "0.2"
launch seeder2 seed -i 127.0.0.1 -d $TRACKER -p $P2 -f 1short_story_10x.txt '-r1' "0.2" '-r2' "0.4"
launch seeder3 seed -i 127.0.0.1 -d $TRACKER -p $P3 -f 1short_story_10x.txt '-r1' "0.4" '-r2' "0.6"
launch seeder4 seed -i 127.0.0.1 -d $TRACKER -p $P4 -f 1short_story_10x.txt '-r1' "0.6" '-r2' "0.8"
launch seeder5 seed -i 127.0.0.1 -d $TRACKER -p $P5 -f 1short_story_10x.txt '-r1' "0.8" '-r2' "1.0"
ready seeder1 seeder2 seeder3 seeder4 seeder5
launch downloader download 1short_story_10x.txt -i 127.0.0.1 -d $TRACKER -p $P6
finished downloader
gave downloader
same seeds/1short_story_10x.txt output/1short_story_10x.txt
passed
