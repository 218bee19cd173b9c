"""The demo: a sample shop made by code (pictures.py, shop.py) and the small backbone trained on other such shops
(practice.py, worlds.py, teacher.py and lessons.py make the lessons, pretrain.py the weights in backbone/)."""
