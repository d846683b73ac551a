# Several files at once, different downloaders on different files, one tracker.
. "$PSScriptRoot/lib.ps1"

title "6: four files, three seeders, four downloaders, one tracker"
sample 0short_story.txt 1short_story_10x.txt 2short_story_100x.txt 3lorem_ipsum.txt
launch tracker tracker --host 127.0.0.1 -d 0
ready tracker
launch seeder1 seed -i 127.0.0.1 -d $TRACKER -p $P1
launch seeder2 seed -i 127.0.0.1 -d $TRACKER -p $P2 -f 0short_story.txt -f 1short_story_10x.txt
launch seeder3 seed -i 127.0.0.1 -d $TRACKER -p $P3 -f 2short_story_100x.txt -f 3lorem_ipsum.txt '-r1' "50%"
ready seeder1 seeder2 seeder3
launch downloader1 download 0short_story.txt -i 127.0.0.1 -d $TRACKER -p $P4 -o output1
launch downloader2 download 1short_story_10x.txt -i 127.0.0.1 -d $TRACKER -p $P5 -o output2
launch downloader3 download 2short_story_100x.txt -i 127.0.0.1 -d $TRACKER -p $P6 -o output3
launch downloader4 download 3lorem_ipsum.txt 0short_story.txt -i 127.0.0.1 -d $TRACKER -p $P7 -o output4
finished downloader1 downloader2 downloader3 downloader4
gave downloader1
gave downloader2
gave downloader3
gave downloader4
same seeds/0short_story.txt output1/0short_story.txt
same seeds/1short_story_10x.txt output2/1short_story_10x.txt
same seeds/2short_story_100x.txt output3/2short_story_100x.txt
same seeds/3lorem_ipsum.txt output4/3lorem_ipsum.txt
same seeds/0short_story.txt output4/0short_story.txt
passed
