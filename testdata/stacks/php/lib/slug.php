<?php
declare(strict_types=1);

function slug(string $title): string
{
    return strtolower(trim(preg_replace('/\W+/', '-', $title), '-'));
}
