mod crashes;
mod faulty;
mod files;
mod sample;
