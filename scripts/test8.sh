#!/usr/bin/env bash
# One seeder with a limited uplink: five downloaders take hardly longer than one.
. "$(dirname "$0")/lib.sh"

title "8: a limited uplink and five downloaders, against one"
sample 3lorem_ipsum.txt
run make-torrent seeds/3lorem_ipsum.txt
launch tracker tracker --host 127.0.0.1 -d 0
ready tracker

launch single download torrents/3lorem_ipsum.txt.torrent -i 127.0.0.1 -d $TRACKER -p $P1 -o single
ready single
launch seeder1 seed -i 127.0.0.1 -d $TRACKER -p $P2 -f torrents/3lorem_ipsum.txt.torrent --up-limit 2M
ready seeder1
timer_on one
says single "Successfully Downloaded "
timer_off one
finished single
stop seeder1
same seeds/3lorem_ipsum.txt single/3lorem_ipsum.txt

launch five1 download torrents/3lorem_ipsum.txt.torrent -i 127.0.0.1 -d $TRACKER -p $P3 -o five1 --keep-seeding
launch five2 download torrents/3lorem_ipsum.txt.torrent -i 127.0.0.1 -d $TRACKER -p $P4 -o five2 --keep-seeding
launch five3 download torrents/3lorem_ipsum.txt.torrent -i 127.0.0.1 -d $TRACKER -p $P5 -o five3 --keep-seeding
launch five4 download torrents/3lorem_ipsum.txt.torrent -i 127.0.0.1 -d $TRACKER -p $P6 -o five4 --keep-seeding
launch five5 download torrents/3lorem_ipsum.txt.torrent -i 127.0.0.1 -d $TRACKER -p $P7 -o five5 --keep-seeding
ready five1 five2 five3 five4 five5
launch seeder2 seed -i 127.0.0.1 -d $TRACKER -p $P8 -f torrents/3lorem_ipsum.txt.torrent --up-limit 2M
ready seeder2
timer_on five
says five1 "Successfully Downloaded "
says five2 "Successfully Downloaded "
says five3 "Successfully Downloaded "
says five4 "Successfully Downloaded "
says five5 "Successfully Downloaded "
timer_off five
stop five1 five2 five3 five4 five5 seeder2
gave five1
gave five2
gave five3
gave five4
gave five5
gave seeder2
same seeds/3lorem_ipsum.txt five1/3lorem_ipsum.txt
same seeds/3lorem_ipsum.txt five2/3lorem_ipsum.txt
same seeds/3lorem_ipsum.txt five3/3lorem_ipsum.txt
same seeds/3lorem_ipsum.txt five4/3lorem_ipsum.txt
same seeds/3lorem_ipsum.txt five5/3lorem_ipsum.txt
sent_at_most seeder2 1.3
ratio_at_most 1.5 five one
passed
