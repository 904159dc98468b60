<?php
declare(strict_types=1);
require __DIR__ . '/../lib/slug.php';

header('Content-Type: text/plain');
echo 'page ', slug($_GET['title'] ?? 'No Title'), "\n";
