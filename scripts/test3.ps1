# Nine seeders with overlapping fifths of a file, and one downloader.
. "$PSScriptRoot/lib.ps1"

title "3: nine seeders with overlapping ranges of 2short_story_100x.txt, one downloader"
sample 2short_story_100x.txt
launch tracker tracker --host 127.0.0.1 -d 0
ready tracker
launch seeder1 seed -i 127.0.0.1 -d $TRACKER -p $P1 -f 2short_story_100x.txt '-r1' "0%" '-r2' "20%"
launch seeder2 seed -i 127.0.0.1 -d $TRACKER -p $P2 -f 2short_story_100x.txt '-r1' "10%" '-r2' "30%"
launch seeder3 seed -i 127.0.0.1 -d $TRACKER -p $P3 -f 2short_story_100x.txt '-r1' "20%" '-r2' "40%"
launch seeder4 seed -i 127.0.0.1 -d $TRACKER -p $P4 -f 2short_story_100x.txt '-r1' "30%" '-r2' "50%"
launch seeder5 seed -i 127.0.0.1 -d $TRACKER -p $P5 -f 2short_story_100x.txt '-r1' "40%" '-r2' "60%"
launch seeder6 seed -i 127.0.0.1 -d $TRACKER -p $P6 -f 2short_story_100x.txt '-r1' "50%" '-r2' "70%"
launch seeder7 seed -i 127.0.0.1 -d $TRACKER -p $P7 -f 2short_story_100x.txt '-r1' "60%" '-r2' "80%"
launch seeder8 seed -i 127.0.0.1 -d $TRACKER -p $P8 -f 2short_story_100x.txt '-r1' "70%" '-r2' "90%"
launch seeder9 seed -i 127.0.0.1 -d $TRACKER -p $P9 -f 2short_story_100x.txt '-r1' "80%" '-r2' "100%"
ready seeder1 seeder2 seeder3 seeder4 seeder5 seeder6 seeder7 seeder8 seeder9
launch downloader download 2short_story_100x.txt -i 127.0.0.1 -d $TRACKER -p $P10
finished downloader
gave downloader
same seeds/2short_story_100x.txt output/2short_story_100x.txt
passed
