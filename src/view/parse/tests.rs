mod grammar;

use super::*;
